//! Metrics, as verbs.
//!
//! Every handle is resolved once, here; recording is an atomic or two. Label sets are closed: they come from the
//! enums of the vocabulary, never from a request.

use std::sync::Arc;
use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::model::{Denial, EventKind, Gap};

use super::tally::Tallies;

/// Seconds; from 10 µs, where a cache hit lies, to the longest time-out.
pub(super) const BUCKETS: [f64; 20] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1,
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 35.0,
];

/// Where a verification got its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// From this gateway's memory.
    Cache,
    /// From the store.
    Store,
}

/// What the cache said to a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// A record that may be used.
    Hit,
    /// Remembered as unknown.
    Unknown,
    /// A record that may not be used any more.
    Stale,
    /// Nothing.
    Miss,
}

/// What was asked of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreOperation {
    /// The look-up of a key.
    Find,
    /// A batch of uses.
    RecordUses,
    /// The fleet's settings.
    Fleet,
}

/// How the store answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreResult {
    /// It did.
    Ok,
    /// It failed or could not be reached.
    Failed,
    /// It did not answer in time.
    TimedOut,
    /// It was not asked: the circuit is open, or too many were asking.
    NotAsked,
}

/// A clock that can step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SteppedClock {
    /// The machine's time of day.
    Machine,
    /// The store's time of day.
    Store,
}

/// How a look-up ended that nobody waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// The record is as the store has it now.
    Done,
    /// The store did not answer; the old record serves on within the rule.
    Failed,
}

/// A listener that can speak TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsListener {
    /// Where clients connect.
    Gateway,
    /// Where the admin API listens.
    Admin,
}

impl TlsListener {
    /// As it stands in labels and in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            TlsListener::Gateway => "gateway",
            TlsListener::Admin => "admin",
        }
    }
}

/// What is counted at each request, and where each thread keeps its count of it.
mod per_request {
    use super::Denial;

    pub(super) const FORWARDED: usize = 0;
    pub(super) const ABANDONED: usize = 1;
    /// And from here on, one for each denial.
    pub(super) const DENIED: usize = 2;
    /// And from here on, one for each answer of the cache.
    pub(super) const LOOKUPS: usize = DENIED + Denial::ALL.len();
    pub(super) const COUNTERS: usize = LOOKUPS + 4;

    pub(super) const REQUEST: usize = 0;
    pub(super) const UPSTREAM: usize = 1;
    /// And the next one is that of the store.
    pub(super) const VERIFIED: usize = 2;
    pub(super) const HISTOGRAMS: usize = VERIFIED + 2;
}

/// Histograms that each thread keeps for itself: name, what it is, and its series.
type PerRequestHistogram = (&'static str, &'static str, &'static [(&'static str, usize)]);

const PER_REQUEST_HISTOGRAMS: [PerRequestHistogram; 3] = [
    (
        "keygate_request_duration_seconds",
        "From a request's head to the head of its answer.",
        &[("", per_request::REQUEST)],
    ),
    (
        "keygate_upstream_duration_seconds",
        "From handing a request on to the head of the answer.",
        &[("", per_request::UPSTREAM)],
    ),
    (
        "keygate_verify_duration_seconds",
        "Time to judge a key, by where the answer came from.",
        &[("source=\"cache\"", per_request::VERIFIED), ("source=\"store\"", per_request::VERIFIED + 1)],
    ),
];

/// Every metric of keygate.
pub struct Metrics {
    handle: PrometheusHandle,
    /// For what only some gateways have: a series that nobody sets would say zero.
    recorder: Arc<PrometheusRecorder>,
    per_request: Tallies<{ per_request::COUNTERS }, { per_request::HISTOGRAMS }>,
    /// Told the sums of `per_request`, when somebody looks.
    per_request_counters: [Counter; per_request::COUNTERS],
    cache_entries: Gauge,
    store_requests: [[Counter; 4]; 3],
    events_applied: [Counter; EventKind::ALL.len()],
    event_propagation: Histogram,
    feed_gaps: [Counter; Gap::ALL.len()],
    feed_lag: Gauge,
    feed_connected: Gauge,
    refreshes: [Counter; 2],
    clock_steps: [Counter; 2],
    clock_offset: Gauge,
    dead_key_attempts: Counter,
    revocations_pending: Gauge,
    revocations_reasserted: Counter,
    fleet_gateways: Gauge,
    roll_age: Gauge,
    currency_age: Gauge,
    usage_pending: Gauge,
    usage_flushed: Counter,
    usage_dropped: Counter,
    connections: Gauge,
}

impl Metrics {
    /// A registry of its own, so that several gateways can live in one process.
    pub fn new() -> Metrics {
        let builder =
            PrometheusBuilder::new().set_buckets(&BUCKETS).expect("the buckets are a non-empty constant");
        let recorder = Arc::new(builder.build_recorder());
        let handle = recorder.handle();
        metrics::with_local_recorder(&*recorder, || {
            describe();
            gauge!("keygate_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
            let asked = |operation: &'static str| {
                ["ok", "failed", "timed_out", "not_asked"].map(|result| {
                    counter!("keygate_store_requests_total", "operation" => operation, "result" => result)
                })
            };
            Metrics {
                handle,
                recorder: Arc::clone(&recorder),
                per_request: Tallies::new(),
                per_request_counters: per_request_counters(),
                cache_entries: gauge!("keygate_cache_entries"),
                store_requests: ["find", "record_uses", "fleet"].map(asked),
                events_applied: EventKind::ALL
                    .map(|kind| counter!("keygate_events_applied_total", "kind" => kind.as_str())),
                event_propagation: metrics::histogram!("keygate_event_propagation_seconds"),
                feed_gaps: Gap::ALL.map(|why| counter!("keygate_feed_gaps_total", "reason" => why.as_str())),
                feed_lag: gauge!("keygate_feed_lag_events"),
                refreshes: ["done", "failed"]
                    .map(|result| counter!("keygate_refreshes_total", "result" => result)),
                clock_steps: ["machine", "store"]
                    .map(|clock| counter!("keygate_clock_steps_total", "clock" => clock)),
                clock_offset: gauge!("keygate_clock_offset_seconds"),
                dead_key_attempts: counter!("keygate_dead_key_attempts_total"),
                revocations_pending: gauge!("keygate_revocations_pending"),
                revocations_reasserted: counter!("keygate_revocations_reasserted_total"),
                fleet_gateways: gauge!("keygate_fleet_gateways"),
                roll_age: gauge!("keygate_roll_age_seconds"),
                feed_connected: gauge!("keygate_feed_connected"),
                currency_age: gauge!("keygate_currency_age_seconds"),
                usage_pending: gauge!("keygate_usage_pending"),
                usage_flushed: counter!("keygate_usage_flushed_total"),
                usage_dropped: counter!("keygate_usage_dropped_total"),
                connections: gauge!("keygate_connections"),
            }
        })
    }

    /// A request was answered by the upstream, `took` after it came in.
    pub fn forward(&self, took: Duration) {
        self.per_request.count(per_request::FORWARDED);
        self.per_request.record(per_request::REQUEST, took);
    }

    /// A request was refused, `took` after it came in.
    pub fn deny(&self, denial: Denial, took: Duration) {
        let index = Denial::ALL.iter().position(|&each| each == denial).expect("ALL has every denial");
        self.per_request.count(per_request::DENIED + index);
        self.per_request.record(per_request::REQUEST, took);
    }

    /// The client went away before its request was decided.
    pub fn abandon(&self) {
        self.per_request.count(per_request::ABANDONED);
    }

    /// The upstream's answer began `took` after the request was handed to it.
    pub fn upstream_answered(&self, took: Duration) {
        self.per_request.record(per_request::UPSTREAM, took);
    }

    /// A key was judged.
    pub fn verified(&self, source: Source, took: Duration) {
        self.per_request.record(per_request::VERIFIED + source as usize, took);
    }

    /// The cache was asked.
    pub fn looked_up(&self, result: Lookup) {
        self.per_request.count(per_request::LOOKUPS + result as usize);
    }

    /// The store was asked.
    pub fn asked_store(&self, operation: StoreOperation, result: StoreResult) {
        self.store_requests[operation as usize][result as usize].increment(1);
    }

    /// An event took effect here, `late` after the store wrote it.
    pub fn applied_event(&self, kind: EventKind, late: Duration) {
        self.events_applied[kind as usize].increment(1);
        self.event_propagation.record(late.as_secs_f64());
    }

    /// Events of one shard may have been missed; its records are loaded again.
    pub fn feed_gap(&self, why: Gap) {
        self.feed_gaps[why as usize].increment(1);
    }

    /// So many events are in the logs and not applied here.
    pub fn feed_lags(&self, events: u64) {
        self.feed_lag.set(events as f64);
    }

    /// A record in use was looked up again before it had to be.
    pub fn refreshed(&self, how: Refresh) {
        self.refreshes[how as usize].increment(1);
    }

    /// A clock was set to another time. That changes nothing here, and somebody should know.
    pub fn clock_stepped(&self, clock: SteppedClock) {
        self.clock_steps[clock as usize].increment(1);
    }

    /// How far the machine's time of day is ahead of the fleet's, in seconds.
    pub fn clock_is_off(&self, seconds: f64) {
        self.clock_offset.set(seconds);
    }

    /// Somebody tried a key that is revoked or has expired.
    pub fn dead_key_tried(&self) {
        self.dead_key_attempts.increment(1);
    }

    /// So many revocations are in force here and not yet in the store.
    pub fn revocations_pend(&self, count: usize) {
        self.revocations_pending.set(count as f64);
    }

    /// A store had lost a revocation, and was told again.
    pub fn revocation_reasserted(&self) {
        self.revocations_reasserted.increment(1);
    }

    /// The store took this gateway's last line on the roll so long ago.
    pub fn roll_line_is(&self, age: Duration) {
        self.roll_age.set(age.as_secs_f64());
    }

    /// So many gateways are on the roll.
    pub fn fleet_has(&self, gateways: usize) {
        self.fleet_gateways.set(gateways as f64);
    }

    /// The subscription stands, or does not.
    pub fn feed_connected(&self, connected: bool) {
        self.feed_connected.set(if connected { 1.0 } else { 0.0 });
    }

    /// How old the oldest shard's proof of currency is.
    pub fn currency_age(&self, age: Duration) {
        self.currency_age.set(age.as_secs_f64());
    }

    /// How many keys the cache holds.
    pub fn cache_holds(&self, entries: u64) {
        self.cache_entries.set(entries as f64);
    }

    /// How many keys have uses that are not written yet.
    pub fn usage_waits(&self, keys: usize) {
        self.usage_pending.set(keys as f64);
    }

    /// The uses of so many keys were written.
    pub fn usage_flushed(&self, keys: usize) {
        self.usage_flushed.increment(keys as u64);
    }

    /// A use could not be kept: too many keys wait to be written.
    pub fn usage_dropped(&self) {
        self.usage_dropped.increment(1);
    }

    /// A client connected.
    pub fn connection_opened(&self) {
        self.connections.increment(1.0);
    }

    /// A client's connection ended.
    pub fn connection_closed(&self) {
        self.connections.decrement(1.0);
    }

    /// The certificate of a listener that speaks TLS ends then, in seconds since 1970.
    pub fn tls_certificate_expires(&self, listener: TlsListener, at: f64) {
        metrics::with_local_recorder(&*self.recorder, || {
            gauge!("keygate_tls_certificate_expiry_timestamp_seconds", "listener" => listener.as_str())
                .set(at);
        });
    }

    /// What stands in a listener's certificate files can be used, or cannot.
    pub fn tls_files_are_usable(&self, listener: TlsListener, usable: bool) {
        metrics::with_local_recorder(&*self.recorder, || {
            gauge!("keygate_tls_files_usable", "listener" => listener.as_str()).set(if usable {
                1.0
            } else {
                0.0
            });
        });
    }

    /// A client did not get through its handshake.
    pub fn tls_handshake_failed(&self, listener: TlsListener) {
        metrics::with_local_recorder(&*self.recorder, || {
            counter!("keygate_tls_handshakes_failed_total", "listener" => listener.as_str()).increment(1);
        });
    }

    /// Everything, in Prometheus' text format.
    pub fn render(&self) -> String {
        for (counter, told) in self.per_request_counters.iter().enumerate() {
            told.absolute(self.per_request.sum(counter));
        }
        let mut text = self.handle.render();
        for (name, what, series) in PER_REQUEST_HISTOGRAMS {
            text += &format!("# HELP {name} {what}\n# TYPE {name} histogram\n");
            for &(label, histogram) in series {
                self.per_request
                    .write_series(&mut text, name, label, histogram)
                    .expect("writing to a string does not fail");
            }
            text.push('\n');
        }
        text
    }

    /// Folds queued histogram samples; to be called every few seconds, or they pile up until a scrape.
    pub fn run_upkeep(&self) {
        self.handle.run_upkeep();
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

fn per_request_counters() -> [Counter; per_request::COUNTERS] {
    let lookups = ["hit", "unknown", "stale", "miss"];
    std::array::from_fn(|counter| match counter {
        per_request::FORWARDED => outcome("forwarded"),
        per_request::ABANDONED => outcome("abandoned"),
        per_request::DENIED..per_request::LOOKUPS => {
            outcome(Denial::ALL[counter - per_request::DENIED].code())
        }
        _ => counter!("keygate_cache_lookups_total", "result" => lookups[counter - per_request::LOOKUPS]),
    })
}

fn outcome(outcome: &'static str) -> Counter {
    counter!("keygate_requests_total", "outcome" => outcome)
}

fn describe() {
    describe_gauge!("keygate_build_info", "Always 1; the version is in its label.");
    describe_counter!(
        "keygate_requests_total",
        "Requests by final outcome: forwarded, abandoned or why refused."
    );
    describe_counter!("keygate_cache_lookups_total", "Look-ups in the cache by what it said.");
    describe_gauge!("keygate_cache_entries", "Keys in the cache.");
    describe_counter!("keygate_store_requests_total", "Requests to the store on behalf of traffic.");
    describe_counter!("keygate_events_applied_total", "Events that took effect here.");
    describe_histogram!("keygate_event_propagation_seconds", "From the store's write to the effect here.");
    describe_counter!("keygate_feed_gaps_total", "Times that a shard's events may have been missed.");
    describe_gauge!("keygate_feed_lag_events", "Events in the store's logs that were not applied here yet.");
    describe_counter!(
        "keygate_refreshes_total",
        "Records in use that were looked up again, by how that ended."
    );
    describe_counter!("keygate_clock_steps_total", "Times that a clock was set to another time of day.");
    describe_gauge!("keygate_clock_offset_seconds", "How far this machine's clock is ahead of the fleet's.");
    describe_counter!(
        "keygate_dead_key_attempts_total",
        "Requests with a key that is revoked or has expired."
    );
    describe_gauge!(
        "keygate_revocations_pending",
        "Revocations in force here that the store does not have yet."
    );
    describe_counter!(
        "keygate_revocations_reasserted_total",
        "Revocations that a store had lost and was told again."
    );
    describe_gauge!(
        "keygate_roll_age_seconds",
        "Age of this gateway's last line on the roll; looks nothing up beyond max_staleness_s."
    );
    describe_gauge!("keygate_fleet_gateways", "Gateways on the roll of the fleet.");
    describe_gauge!("keygate_feed_connected", "1 while the event subscription stands.");
    describe_gauge!(
        "keygate_currency_age_seconds",
        "Age of the oldest shard's proof that nothing was missed."
    );
    describe_gauge!("keygate_usage_pending", "Keys whose last use is not written yet.");
    describe_counter!("keygate_usage_flushed_total", "Last uses written to the store.");
    describe_counter!("keygate_usage_dropped_total", "Uses not kept because too many keys were waiting.");
    describe_gauge!("keygate_connections", "Open client connections.");
    describe_gauge!(
        "keygate_tls_certificate_expiry_timestamp_seconds",
        "When the certificate in use ends, or the first of its chain."
    );
    describe_gauge!("keygate_tls_files_usable", "0 while a listener's certificate files cannot be used.");
    describe_counter!(
        "keygate_tls_handshakes_failed_total",
        "Clients that did not get through their handshake."
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_rendered() {
        let metrics = Metrics::new();
        metrics.deny(Denial::KeyRevoked, Duration::from_micros(12));
        metrics.asked_store(StoreOperation::Find, StoreResult::TimedOut);
        let text = metrics.render();
        assert!(text.contains("keygate_requests_total{outcome=\"key_revoked\"} 1"), "{text}");
        assert!(text.contains("keygate_requests_total{outcome=\"forwarded\"} 0"), "{text}");
        assert!(
            text.contains("keygate_store_requests_total{operation=\"find\",result=\"timed_out\"} 1"),
            "{text}"
        );
        assert!(text.contains("keygate_request_duration_seconds_bucket{le=\"0.000025\"} 1"), "{text}");
    }
}
