//! The ground of a plot: scales, ticks, a frame with a grid.

use std::fmt::Write;

use super::html::escape;
use super::number;

pub const WIDTH: f64 = 560.0;
pub const HEIGHT: f64 = 280.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 40.0;
/// About so many ticks have room.
const TICKS: f64 = 5.0;
/// From this ratio on, large over small, equal steps would press most of a curve into one line.
const WIDE: f64 = 30.0;

/// From a value to a share of the way along an axis, 0 to 1, with the values that are written there.
#[derive(Clone, Debug)]
pub struct Axis {
    pub name: String,
    kind: Kind,
    from: f64,
    to: f64,
    pub ticks: Vec<(f64, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Linear,
    Logarithmic,
    /// `-log10` of what a percentile leaves.
    Nines,
}

impl Kind {
    fn of(self, value: f64) -> f64 {
        match self {
            Kind::Linear => value,
            Kind::Logarithmic => value.log10(),
            Kind::Nines => -(1.0 - value / 100.0).log10(),
        }
    }
}

impl Axis {
    /// Equal steps, and 0 is among them: nothing looks larger than it is.
    pub fn linear(name: &str, values: impl Iterator<Item = f64> + Clone) -> Axis {
        let (least, most) = bounds(values);
        let (least, most) = (least.min(0.0), most.max(0.0));
        let step = step((most - least).max(1e-9));
        let (from, to) = ((least / step).floor(), (most / step).ceil().max((least / step).floor() + 1.0));
        let digits = (-step.log10().floor()).max(0.0) as usize;
        let ticks = (from as i64..=to as i64).map(|tick| tick as f64 * step);
        let ticks = ticks.map(|tick| (tick, number(tick, digits))).collect();
        Axis { name: name.to_owned(), kind: Kind::Linear, from: from * step, to: to * step, ticks }
    }

    /// As wide as the values: nothing is left free at its ends.
    pub fn time(name: &str, values: impl Iterator<Item = f64> + Clone) -> Axis {
        let (_, most) = bounds(values);
        let mut axis = Axis::linear(name, [0.0, most].into_iter());
        axis.to = most.max(1e-9);
        axis.ticks.retain(|(tick, _)| *tick <= most);
        axis
    }

    /// Equal steps, or equal ratios if the values are wide apart.
    pub fn fitting(name: &str, values: impl Iterator<Item = f64> + Clone) -> Axis {
        let (least, most) = bounds(values.clone().filter(|value| *value > 0.0));
        if most / least < WIDE {
            return Axis::linear(name, values);
        }
        let steps = (-6..=9).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)));
        let below = steps.clone().rfind(|step| *step <= least).unwrap_or(least);
        let above = steps.clone().find(|step| *step >= most).unwrap_or(most);
        let inside = steps.filter(|step| (below..=above).contains(step));
        let sparse = above / below > 1e3;
        let ticks = inside.filter(|step| !sparse || (step.log10() - step.log10().round()).abs() < 1e-9);
        let ticks = ticks.map(|tick| (tick, number(tick, (-tick.log10().floor()).max(0.0) as usize)));
        Axis {
            name: name.to_owned(),
            kind: Kind::Logarithmic,
            from: below,
            to: above,
            ticks: ticks.collect(),
        }
    }

    /// From the 0th percentile to the highest that is there.
    pub fn nines(name: &str, percentiles: impl Iterator<Item = f64> + Clone) -> Axis {
        let (_, most) = bounds(percentiles);
        let all = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999];
        let ticks = all.into_iter().filter(|tick| *tick <= most).map(|tick| (tick, format!("{tick}")));
        Axis { name: name.to_owned(), kind: Kind::Nines, from: 0.0, to: most, ticks: ticks.collect() }
    }

    pub fn share(&self, value: f64) -> f64 {
        let [from, to, value] = [self.from, self.to, value].map(|value| self.kind.of(value));
        ((value - from) / (to - from)).clamp(0.0, 1.0)
    }
}

/// A grid with its ticks, and where values lie on it.
pub struct Frame {
    pub x: Axis,
    pub y: Axis,
}

impl Frame {
    pub fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let across = LEFT + self.x.share(x) * (WIDTH - LEFT - RIGHT);
        (across, HEIGHT - BOTTOM - self.y.share(y) * (HEIGHT - TOP - BOTTOM))
    }

    /// Grid, ticks and names of the axes.
    pub fn ground(&self) -> String {
        let mut svg = String::new();
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for (tick, text) in &self.y.ticks {
            let y = self.place((0.0, *tick)).1;
            let _ = write!(svg, r#"<path class="grid" d="M{LEFT} {y:.1}H{right}"/>"#);
            let _ = write!(
                svg,
                r#"<text class="tick end" x="{:.1}" y="{:.1}">{text}</text>"#,
                LEFT - 8.0,
                y + 4.0
            );
        }
        for (tick, text) in &self.x.ticks {
            let x = self.place((*tick, 0.0)).0;
            let _ = write!(svg, r#"<path class="tickmark" d="M{x:.1} {bottom}v5"/>"#);
            let _ =
                write!(svg, r#"<text class="tick middle" x="{x:.1}" y="{}">{text}</text>"#, bottom + 18.0);
        }
        let _ = write!(svg, r#"<path class="axis" d="M{LEFT} {bottom}H{right}"/>"#);
        let (x_name, y_name) = (escape(&self.x.name), escape(&self.y.name));
        let _ = write!(svg, r#"<text class="name end" x="{right}" y="{}">{x_name}</text>"#, HEIGHT - 6.0);
        let _ = write!(svg, r#"<text class="name" x="4" y="12">{y_name}</text>"#);
        svg
    }
}

fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let finite = values.filter(|value| value.is_finite());
    let (least, most) =
        finite.fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(value), most.max(value)));
    if least > most { (0.0, 1.0) } else { (least, most) }
}

/// 1, 2 or 5 times a power of ten, so that a range has about as many ticks as have room.
fn step(range: f64) -> f64 {
    let rough = range / TICKS;
    let power = 10f64.powf(rough.log10().floor());
    let digit = [1.0, 2.0, 5.0].into_iter().find(|digit| digit * power >= rough * 0.999).unwrap_or(10.0);
    digit * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn an_axis_has_0_on_it() {
        let axis = Axis::linear("", [3.0, 940.0].into_iter());
        assert_eq!(written(&axis), ["0", "200", "400", "600", "800", "1,000"]);
        assert_eq!((axis.share(0.0), axis.share(500.0), axis.share(2000.0)), (0.0, 0.5, 1.0));
        assert_eq!(written(&Axis::linear("", [-3.0, 4.0].into_iter())), ["-4", "-2", "0", "2", "4"]);
    }

    #[test]
    fn what_lies_wide_apart_gets_equal_ratios() {
        let axis = Axis::fitting("", [0.11, 4.0].into_iter());
        assert_eq!(written(&axis), ["0.1", "0.2", "0.5", "1", "2", "5"]);
        assert_eq!(written(&Axis::fitting("", [0.1, 900.0].into_iter())), ["0.1", "1", "10", "100", "1,000"]);
        assert_eq!(written(&Axis::fitting("", [1.0, 2.0].into_iter()))[0], "0.0");
    }

    #[test]
    fn each_nine_has_the_same_room() {
        let axis = Axis::nines("", [50.0, 99.99].into_iter());
        assert_eq!(written(&axis), ["0", "50", "90", "99", "99.9", "99.99"]);
        let shares = [0.0, 90.0, 99.0, 99.9, 99.99].map(|percentile| axis.share(percentile));
        assert!(shares.iter().zip(0..).all(|(share, nth)| (share - f64::from(nth) / 4.0).abs() < 1e-6));
    }

    #[test]
    fn nothing_and_all_the_same_have_an_axis_too() {
        for values in [vec![], vec![0.0], vec![7.0, 7.0], vec![f64::NAN]] {
            let axis = Axis::linear("", values.iter().copied());
            assert!(axis.ticks.len() >= 2, "{values:?}");
            assert!(axis.share(7.0).is_finite());
        }
    }

    #[test]
    fn the_largest_is_at_the_top_and_at_the_right() {
        let frame = Frame {
            x: Axis::time("s", [0.0, 10.0].into_iter()),
            y: Axis::linear("", [0.0, 10.0].into_iter()),
        };
        assert_eq!(frame.place((0.0, 0.0)), (LEFT, HEIGHT - BOTTOM));
        assert_eq!(frame.place((10.0, 10.0)), (WIDTH - RIGHT, TOP));
    }
}
