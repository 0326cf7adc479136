//! What is counted at each request, by each thread for itself.
//!
//! A counter that all workers raise is memory that they take from each other at each request. So every thread has a tally of its
//! own, which nobody else writes, and who wants to know adds them up.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use thread_local::ThreadLocal;

use super::metrics::BUCKETS;

/// A number that one thread raises and others read.
#[derive(Default)]
struct Count(AtomicU64);

impl Count {
    /// Only its own thread does this, so nothing comes between the two halves.
    #[inline]
    fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One thread's share of `COUNTERS` counters and `HISTOGRAMS` histograms.
struct Tally<const COUNTERS: usize, const HISTOGRAMS: usize> {
    counters: [Count; COUNTERS],
    histograms: [Durations; HISTOGRAMS],
}

impl<const COUNTERS: usize, const HISTOGRAMS: usize> Default for Tally<COUNTERS, HISTOGRAMS> {
    fn default() -> Self {
        Tally {
            counters: std::array::from_fn(|_| Count::default()),
            histograms: std::array::from_fn(|_| Durations::default()),
        }
    }
}

/// How many durations fell into each bucket, and their sum.
#[derive(Default)]
struct Durations {
    /// The last one is for what is longer than every bound.
    buckets: [Count; BUCKETS.len() + 1],
    nanos: Count,
}

/// The buckets' upper bounds in nanoseconds.
const BOUNDS: [u64; BUCKETS.len()] = {
    let (mut bounds, mut i) = ([0; BUCKETS.len()], 0);
    while i < BUCKETS.len() {
        bounds[i] = (BUCKETS[i] * 1e9 + 0.5) as u64;
        i += 1;
    }
    bounds
};

impl Durations {
    #[inline]
    fn record(&self, took: Duration) {
        let nanos = took.as_nanos() as u64;
        let bucket = BOUNDS.iter().position(|&bound| nanos <= bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].add(1);
        self.nanos.add(nanos);
    }
}

/// The tallies of all threads.
pub(super) struct Tallies<const COUNTERS: usize, const HISTOGRAMS: usize> {
    threads: ThreadLocal<Tally<COUNTERS, HISTOGRAMS>>,
}

impl<const COUNTERS: usize, const HISTOGRAMS: usize> Tallies<COUNTERS, HISTOGRAMS> {
    pub(super) fn new() -> Self {
        Tallies { threads: ThreadLocal::new() }
    }

    #[inline]
    pub(super) fn count(&self, counter: usize) {
        self.threads.get_or_default().counters[counter].add(1);
    }

    #[inline]
    pub(super) fn record(&self, histogram: usize, took: Duration) {
        self.threads.get_or_default().histograms[histogram].record(took);
    }

    /// A counter's sum over all threads.
    pub(super) fn sum(&self, counter: usize) -> u64 {
        self.threads.iter().map(|tally| tally.counters[counter].read()).sum()
    }

    /// Writes a histogram's series in Prometheus' text format. `label` is `name="value"`, or nothing.
    pub(super) fn write_series(
        &self,
        text: &mut String,
        name: &str,
        label: &str,
        histogram: usize,
    ) -> fmt::Result {
        let mut buckets = [0; BUCKETS.len() + 1];
        let mut nanos = 0u64;
        for tally in &self.threads {
            let durations = &tally.histograms[histogram];
            buckets.iter_mut().zip(&durations.buckets).for_each(|(sum, bucket)| *sum += bucket.read());
            nanos = nanos.wrapping_add(durations.nanos.read());
        }
        let comma = if label.is_empty() { "" } else { "," };
        let mut below = 0u64;
        for (bound, bucket) in BUCKETS.iter().zip(buckets) {
            below += bucket;
            writeln!(text, "{name}_bucket{{{label}{comma}le=\"{bound}\"}} {below}")?;
        }
        let all = below + buckets[BUCKETS.len()];
        writeln!(text, "{name}_bucket{{{label}{comma}le=\"+Inf\"}} {all}")?;
        let labels = if label.is_empty() { String::new() } else { format!("{{{label}}}") };
        writeln!(text, "{name}_sum{labels} {}", nanos as f64 / 1e9)?;
        writeln!(text, "{name}_count{labels} {all}")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    fn series(tallies: &Tallies<1, 1>, label: &str) -> String {
        let mut text = String::new();
        tallies.write_series(&mut text, "took", label, 0).unwrap();
        text
    }

    #[test]
    fn all_threads_are_added_up_also_those_that_have_ended() {
        let tallies = Arc::new(Tallies::<1, 1>::new());
        let threads = (0..4).map(|_| {
            let tallies = Arc::clone(&tallies);
            std::thread::spawn(move || {
                for _ in 0..1_000 {
                    tallies.count(0);
                    tallies.record(0, Duration::from_micros(20));
                }
            })
        });
        threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
        tallies.count(0);
        assert_eq!(tallies.sum(0), 4_001);
        let text = series(&tallies, "");
        assert!(
            text.contains("took_bucket{le=\"0.00001\"} 0\ntook_bucket{le=\"0.000025\"} 4000\n"),
            "{text}"
        );
        assert!(text.ends_with("took_sum 0.08\ntook_count 4000\n"), "{text}");
    }

    #[test]
    fn a_histogram_is_written_as_the_exporter_writes_it() {
        let recorder = PrometheusBuilder::new().set_buckets(&BUCKETS).unwrap().build_recorder();
        let theirs =
            metrics::with_local_recorder(&recorder, || metrics::histogram!("took", "source" => "cache"));
        let tallies = Tallies::<1, 1>::new();
        // On each bound, on both sides of it, and beyond the last.
        let near = BOUNDS.iter().flat_map(|&bound| [bound - 1, bound, bound + 1]).chain([40_000_000_000]);
        for took in near.map(Duration::from_nanos) {
            theirs.record(took.as_secs_f64());
            tallies.record(0, took);
        }
        let rendered = recorder.handle().render();
        let of_theirs = |line: &&str| line.starts_with("took_") && !line.contains("_sum");
        let theirs: Vec<&str> = rendered.lines().filter(of_theirs).collect();
        let ours = series(&tallies, "source=\"cache\"");
        assert_eq!(ours.lines().filter(of_theirs).collect::<Vec<_>>(), theirs);
    }
}
