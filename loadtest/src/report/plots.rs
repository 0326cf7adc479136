//! Plots, as SVG that takes its colours from the page.

use std::fmt::Write;

use super::html::escape;
use super::svg::{Axis, Frame, HEIGHT, WIDTH};
use super::{Bar, Plot, Series, number};

/// With more points than this there is no room to point at one.
const POINTS: usize = 130;
/// Colours that the page has; more series begin anew.
const COLOURS: usize = 6;
const BAR: f64 = 18.0;
const BAR_STEP: f64 = 30.0;

impl Plot {
    pub fn title(&self) -> &str {
        match self {
            Plot::Lines { title, .. } | Plot::Percentiles { title, .. } | Plot::Bars { title, .. } => title,
        }
    }

    /// What the colours stand for.
    pub fn legend(&self) -> Vec<&str> {
        match self {
            Plot::Lines { series, .. } | Plot::Percentiles { series, .. } => {
                series.iter().map(|series| series.name.as_str()).collect()
            }
            Plot::Bars { bars, .. } => part_names(bars),
        }
    }

    pub fn svg(&self) -> String {
        match self {
            Plot::Lines { x_axis, y_axis, series, .. } => {
                let x = Axis::time(x_axis, points(series).map(|(x, _)| x));
                let y = Axis::linear(y_axis, points(series).map(|(_, y)| y));
                lines(&Frame { x, y }, series, &|(x, y)| format!("{} {x_axis}: {}", short(x), short(y)))
            }
            Plot::Percentiles { series, .. } => {
                let x = Axis::nines("percentile", points(series).map(|(x, _)| x));
                let y = Axis::fitting("ms", points(series).map(|(_, y)| y));
                lines(&Frame { x, y }, series, &|(x, y)| format!("p{x}: {} ms", short(y)))
            }
            Plot::Bars { unit, bars, .. } => stacked(bars, unit),
        }
    }
}

fn points(series: &[Series]) -> impl Iterator<Item = (f64, f64)> + Clone {
    series
        .iter()
        .flat_map(|series| series.points.iter().copied())
        .filter(|(x, y)| x.is_finite() && y.is_finite())
}

fn lines(frame: &Frame, series: &[Series], tell: &dyn Fn((f64, f64)) -> String) -> String {
    let mut svg = open(HEIGHT) + &frame.ground();
    for (nth, series) in series.iter().enumerate() {
        let colour = nth % COLOURS;
        let places = points(std::slice::from_ref(series)).map(|point| (point, frame.place(point)));
        let path: Vec<String> = places.clone().map(|(_, (x, y))| format!("{x:.1} {y:.1}")).collect();
        if path.is_empty() {
            continue;
        }
        let _ = write!(svg, r#"<path class="line c{colour}" d="M{}"/>"#, path.join("L"));
        if path.len() <= POINTS {
            for (point, (x, y)) in places {
                let told = escape(&format!("{}, {}", series.name, tell(point)));
                let _ = write!(
                    svg,
                    r#"<circle class="point c{colour}" cx="{x:.1}" cy="{y:.1}" r="5"><title>{told}</title></circle>"#
                );
            }
        }
    }
    svg + "</svg>"
}

/// Names to the left, parts in their colours, the whole to the right.
fn stacked(bars: &[Bar], unit: &str) -> String {
    const VALUE: f64 = 84.0;
    let names = part_names(bars);
    let longest = bars.iter().map(|bar| bar.name.chars().count()).max().unwrap_or_default();
    let left = (longest as f64 * 6.8 + 12.0).min(WIDTH / 2.0);
    let whole = |bar: &Bar| bar.parts.iter().map(|(_, value)| value.max(0.0)).sum::<f64>();
    let most = bars.iter().map(whole).fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = open(bars.len() as f64 * BAR_STEP + 8.0);
    for (nth, bar) in bars.iter().enumerate() {
        let top = nth as f64 * BAR_STEP + 6.0;
        let base = top + BAR * 0.72;
        let mut x = left;
        let _ = write!(
            svg,
            r#"<text class="bar-name end" x="{:.1}" y="{base:.1}">{}</text>"#,
            left - 8.0,
            escape(&bar.name)
        );
        for (part, value) in &bar.parts {
            let width = value.max(0.0) / most * (WIDTH - left - VALUE);
            let colour = names.iter().position(|name| name == part).unwrap_or_default() % COLOURS;
            let told = escape(&format!("{}, {part}: {} {unit}", bar.name, short(*value)));
            // A thread of the ground between two parts.
            let drawn = (width - 1.5).max(0.0);
            let _ = write!(
                svg,
                r#"<rect class="c{colour}" x="{x:.1}" y="{top:.1}" width="{drawn:.1}" height="{BAR}" rx="2"><title>{told}</title></rect>"#
            );
            x += width;
        }
        let told = escape(&format!("{} {unit}", short(whole(bar))));
        let _ = write!(svg, r#"<text class="bar-value" x="{:.1}" y="{base:.1}">{told}</text>"#, x + 6.0);
    }
    svg + "</svg>"
}

fn part_names(bars: &[Bar]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for (part, _) in bars.iter().flat_map(|bar| &bar.parts) {
        if !names.contains(&part.as_str()) {
            names.push(part);
        }
    }
    names
}

fn open(height: f64) -> String {
    format!(r#"<svg viewBox="0 0 {WIDTH} {height}" role="img">"#)
}

/// Three digits that matter.
fn short(value: f64) -> String {
    let digits = if value == 0.0 { 0.0 } else { 2.0 - value.abs().log10().floor() };
    number(value, digits.clamp(0.0, 3.0) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, points: &[(f64, f64)]) -> Series {
        Series { name: name.to_owned(), points: points.to_vec() }
    }

    #[test]
    fn a_line_goes_through_all_points_that_are_numbers() {
        let plot = Plot::Lines {
            title: String::new(),
            x_axis: "s".to_owned(),
            y_axis: "requests/s".to_owned(),
            series: vec![series("a", &[(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0)]), series("b", &[])],
        };
        let svg = plot.svg();
        assert_eq!(svg.matches("<circle").count(), 2);
        assert_eq!(svg.matches(r#"class="line"#).count(), 1);
        assert!(!svg.contains("NaN"));
        assert_eq!(plot.legend(), ["a", "b"]);
    }

    #[test]
    fn the_longest_bar_fills_the_room_and_the_others_their_share() {
        let bar = |name: &str, user, system| Bar {
            name: name.to_owned(),
            parts: vec![("user".to_owned(), user), ("system".to_owned(), system)],
        };
        let plot = Plot::Bars {
            title: String::new(),
            unit: "µs".to_owned(),
            bars: vec![bar("a", 10.0, 20.0), bar("b", 5.0, 10.0)],
        };
        let svg = plot.svg();
        assert_eq!(plot.legend(), ["user", "system"]);
        assert!(svg.contains("30.0 µs") && svg.contains("15.0 µs"));
        let widths: Vec<f64> = svg
            .split(r#" width=""#)
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().parse().unwrap())
            .collect();
        assert!((widths[1] + 1.5 - 2.0 * (widths[0] + 1.5)).abs() < 0.3 && (widths[1] - widths[0]) > 0.0);
    }

    #[test]
    fn names_are_escaped() {
        let plot = Plot::Percentiles { title: String::new(), series: vec![series("<b>&", &[(50.0, 1.0)])] };
        assert!(plot.svg().contains("&lt;b&gt;&amp;") && !plot.svg().contains("<b>"));
    }

    #[test]
    fn three_digits_are_shown() {
        assert_eq!(
            [0.0, 0.0123, 1.234, 12.34, 123.4, 12_345.0].map(short),
            ["0", "0.012", "1.23", "12.3", "123", "12,345"]
        );
    }
}
