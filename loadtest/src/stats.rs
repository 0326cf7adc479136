//! Percentiles, and where a curve crosses a line.

use serde::Serialize;

/// What is told of many values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub count: usize,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

impl Summary {
    /// Of nothing there is nothing to tell.
    pub fn of(mut values: Vec<f64>) -> Option<Summary> {
        values.sort_by(f64::total_cmp);
        let max = *values.last()?;
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| percentile(&values, share));
        Some(Summary { count: values.len(), p50, p90, p99, max })
    }
}

/// The smallest value that at least `share` of all are not above: the nearest rank, so always one that was measured.
///
/// # Panics
/// If there is no value.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// The middle value; between the middle two if their number is even.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some((lower + upper) / 2.0)
}

/// By how much y grows with x: the straight line with the least squares. `None` if there is only one x.
pub fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let together: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    (spread > 0.0).then(|| together / spread)
}

/// Where a curve rises above a line for good.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Crossing {
    /// Between two points, straight between their logarithms.
    At { x: f64 },
    /// Before the first point.
    Below { x: f64 },
    /// Not up to the last point.
    NotUpTo { x: f64 },
}

/// Where `points`, pairs of x and y in rising x, reach `line` and stay there to the end. One point above that is followed
/// by one below is noise.
pub fn crossing(points: &[(f64, f64)], line: f64) -> Option<Crossing> {
    let &(last_x, _) = points.last()?;
    let above = points.iter().rev().take_while(|(_, y)| *y >= line).count();
    let first = points.len() - above;
    Some(match (first, above) {
        (_, 0) => Crossing::NotUpTo { x: last_x },
        (0, _) => Crossing::Below { x: points[0].0 },
        _ => {
            let ((x0, y0), (x1, y1)) = (points[first - 1], points[first]);
            let way = (line - y0) / (y1 - y0);
            Crossing::At { x: (x0.ln() + way * (x1.ln() - x0.ln())).exp() }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(
            [0.0, 0.5, 0.9, 0.99, 1.0].map(|share| percentile(&hundred, share)),
            [1.0, 50.0, 90.0, 99.0, 100.0]
        );
        assert_eq!(percentile(&[7.0], 0.99), 7.0);
        assert_eq!(percentile(&[1.0, 2.0], 0.99), 2.0);
    }

    #[test]
    fn a_summary_does_not_mind_the_order() {
        let summary = Summary::of(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!((summary.count, summary.p50, summary.p99, summary.max), (3, 2.0, 3.0, 3.0));
        assert_eq!(Summary::of(Vec::new()), None);
    }

    #[test]
    fn the_median_lies_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([]), None);
    }

    #[test]
    fn a_slope_is_that_of_the_line_through_the_points() {
        assert_eq!(slope(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]), Some(2.0));
        assert_eq!(slope(&[(0.0, 1.0), (1.0, 0.0), (2.0, 1.0)]), Some(0.0));
        assert_eq!(slope(&[(1.0, 1.0), (1.0, 9.0)]), None);
        assert_eq!(slope(&[]), None);
    }

    #[test]
    fn a_crossing_lies_between_the_points_beside_it() {
        let points = [(10.0, 1.0), (100.0, 1.1), (10_000.0, 1.3), (20_000.0, 2.0)];
        let Some(Crossing::At { x }) = crossing(&points, 1.2) else { panic!("it crosses") };
        assert!((x - 1000.0).abs() < 1e-6, "{x}");
    }

    #[test]
    fn one_point_above_the_line_is_noise_if_the_next_is_not() {
        let points = [(10.0, 1.5), (100.0, 1.0), (1000.0, 1.1)];
        assert_eq!(crossing(&points, 1.2), Some(Crossing::NotUpTo { x: 1000.0 }));
    }

    #[test]
    fn a_curve_that_is_always_above_crosses_before_it_begins() {
        assert_eq!(crossing(&[(10.0, 1.3), (50.0, 1.4)], 1.2), Some(Crossing::Below { x: 10.0 }));
        assert_eq!(crossing(&[], 1.2), None);
    }
}
