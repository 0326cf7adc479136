//! What a gateway says of itself, read from `/metrics`.

use std::collections::BTreeMap;

use serde::Serialize;

/// One scrape.
pub struct Scrape(pub String);

/// A Prometheus histogram, without its labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    count: f64,
    sum: f64,
    /// Upper bound, as it is written, with how many are not above it.
    buckets: BTreeMap<String, f64>,
}

/// What a histogram tells: percentiles are the upper bounds of buckets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Digest {
    pub count: f64,
    pub mean_ms: f64,
    pub p50_at_most_ms: f64,
    pub p99_at_most_ms: f64,
}

impl Scrape {
    /// The sum of all series of this name.
    pub fn sum(&self, name: &str) -> f64 {
        self.samples().filter(|sample| sample.name == name).map(|sample| sample.value).sum()
    }

    /// The sum of those series of this name that have this label, as `operation="find"`.
    pub fn sum_of(&self, name: &str, label: &str) -> f64 {
        let labelled = self.samples().filter(|sample| sample.name == name && sample.labels.contains(label));
        labelled.map(|sample| sample.value).sum()
    }

    /// The histogram of this name, all its series in one.
    pub fn histogram(&self, name: &str) -> Histogram {
        let mut histogram = Histogram::default();
        for sample in self.samples() {
            match sample.name.strip_prefix(name) {
                Some("_count") => histogram.count += sample.value,
                Some("_sum") => histogram.sum += sample.value,
                Some("_bucket") => {
                    let bound = sample.labels.split("le=\"").nth(1).and_then(|rest| rest.split('"').next());
                    *histogram.buckets.entry(bound.unwrap_or_default().to_owned()).or_default() +=
                        sample.value;
                }
                _ => {}
            }
        }
        histogram
    }

    fn samples(&self) -> impl Iterator<Item = Sample<'_>> {
        self.0.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            Some(Sample { name, labels, value: value.parse().ok()? })
        })
    }
}

struct Sample<'a> {
    name: &'a str,
    labels: &'a str,
    value: f64,
}

impl Histogram {
    /// Adds what came between two scrapes.
    pub fn add_between(&mut self, before: &Histogram, after: &Histogram) {
        self.count += after.count - before.count;
        self.sum += after.sum - before.sum;
        for (bound, count) in &after.buckets {
            let before = before.buckets.get(bound).copied().unwrap_or_default();
            *self.buckets.entry(bound.clone()).or_default() += count - before;
        }
    }

    /// `None` if nothing was recorded.
    pub fn digest(&self) -> Option<Digest> {
        let mut buckets: Vec<(f64, f64)> =
            self.buckets.iter().filter_map(|(bound, &count)| Some((bound.parse().ok()?, count))).collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let bound = |share: f64| {
            let bucket = buckets.iter().find(|(_, count)| *count >= share * self.count);
            bucket.map_or(f64::INFINITY, |(bound, _)| bound * 1e3)
        };
        (self.count > 0.0).then(|| Digest {
            count: self.count,
            mean_ms: self.sum / self.count * 1e3,
            p50_at_most_ms: bound(0.5),
            p99_at_most_ms: bound(0.99),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE lag histogram\n\
        lag_bucket{kind=\"a\",le=\"0.001\"} 3\nlag_bucket{kind=\"a\",le=\"0.01\"} 4\nlag_bucket{kind=\"a\",le=\"+Inf\"} 4\n\
        lag_bucket{kind=\"b\",le=\"0.001\"} 1\nlag_bucket{kind=\"b\",le=\"0.01\"} 1\nlag_bucket{kind=\"b\",le=\"+Inf\"} 1\n\
        lag_sum{kind=\"a\"} 0.009\nlag_count{kind=\"a\"} 4\nlag_sum{kind=\"b\"} 0.001\nlag_count{kind=\"b\"} 1\nlag_total 7\n";

    #[test]
    fn series_of_one_name_are_added() {
        let scrape = Scrape(TEXT.to_owned());
        assert_eq!(scrape.sum("lag_count"), 5.0);
        assert_eq!(scrape.sum("lag_total"), 7.0);
        assert_eq!(scrape.sum_of("lag_count", "kind=\"b\""), 1.0);
        let mut between = Histogram::default();
        between.add_between(&Histogram::default(), &scrape.histogram("lag"));
        let digest = between.digest().unwrap();
        assert_eq!((digest.count, digest.p50_at_most_ms, digest.p99_at_most_ms), (5.0, 1.0, 10.0));
        assert!((digest.mean_ms - 2.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_recorded_is_nothing_to_tell() {
        let scrape = Scrape(TEXT.to_owned());
        let mut between = Histogram::default();
        between.add_between(&scrape.histogram("lag"), &scrape.histogram("lag"));
        assert_eq!(between.digest(), None);
        assert_eq!(scrape.histogram("other").digest(), None);
    }
}
