//! What is going to be done: the same for the same seed, as far as clients decide it.

use std::time::Duration;

use fastrand::Rng;

use crate::support::proxy::Loss;

/// Gateways in the fleet.
pub const GATEWAYS: usize = 4;
/// More operations than this are a long plan: many clients that never rest, and more of them between two acts of chaos.
const LONG: usize = 50_000;

/// Who does what.
pub struct Plan {
    /// For each client, one after the other.
    pub clients: Vec<Vec<Step>>,
    /// One after the other, each when so many operations are done.
    pub chaos: Vec<(usize, Chaos)>,
    /// How long a client rests between two operations, so that chaos has time to happen.
    pub rest: Duration,
}

/// One operation of a client. Which key it is about is decided by `choice` among those that there are then.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    pub gateway: usize,
    pub choice: u64,
    pub act: Act,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Act {
    Create,
    Use,
    /// By its id, or by the key itself; then it is used on every gateway.
    Revoke {
        by_key: bool,
    },
    /// With a grace of so many seconds; then both are used on every gateway.
    Rotate {
        grace_s: u64,
    },
}

/// Something that happens to the fleet. It is over when it is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Chaos {
    KillSubscribers,
    KillClients,
    FreezeRedis(Duration),
    RestartRedis,
    /// The logs are cut off while this gateway is away.
    TrimLogs(usize, Duration),
    FreezeGateway(usize, Duration),
    LoseMessages(usize, Loss, Duration),
    DeadCable(usize, Duration),
    CutCable(usize),
}

impl Plan {
    pub fn of(seed: u64, operations: usize) -> Plan {
        let mut random = Rng::with_seed(seed);
        // So many clients at the same time, so many operations between two acts, and so long a rest between two operations
        // of a client: chaos, which takes about a second each time, is to find traffic and to leave some.
        let (count, between, rest_ms) = if operations > LONG { (32, 6_000, 0) } else { (8, 650, 8) };
        let mut clients = vec![Vec::new(); count];
        for number in 0..operations {
            clients[number % count].push(step(&mut random));
        }
        let acts = operations / between;
        // Every kind comes once before any comes twice.
        let mut chaos: Vec<_> = (0..acts).map(|number| act_of_chaos(number, &mut random)).collect();
        random.shuffle(&mut chaos);
        let chaos = chaos.into_iter().enumerate().map(|(number, act)| ((number + 1) * between, act));
        Plan { clients, chaos: chaos.collect(), rest: Duration::from_millis(rest_ms) }
    }
}

fn step(random: &mut Rng) -> Step {
    let act = match random.u32(0..1000) {
        0..30 => Act::Create,
        30..50 => Act::Revoke { by_key: random.bool() },
        50..58 => Act::Rotate { grace_s: random.u64(0..4) },
        _ => Act::Use,
    };
    Step { gateway: random.usize(0..GATEWAYS), choice: random.u64(..), act }
}

fn act_of_chaos(number: usize, random: &mut Rng) -> Chaos {
    let gateway = random.usize(0..GATEWAYS);
    let mut millis = |range: std::ops::Range<u64>| Duration::from_millis(random.u64(range));
    match number % 11 {
        0 => Chaos::DeadCable(gateway, millis(2_500..3_500)),
        1 => Chaos::FreezeGateway(gateway, millis(300..1_500)),
        2 => Chaos::FreezeRedis(millis(100..800)),
        3 => Chaos::LoseMessages(gateway, Loss::All, millis(500..1_500)),
        4 => Chaos::RestartRedis,
        5 => Chaos::KillSubscribers,
        6 => Chaos::TrimLogs(gateway, millis(800..1_500)),
        7 => Chaos::CutCable(gateway),
        8 => Chaos::KillClients,
        9 => Chaos::LoseMessages(gateway, Loss::EveryOther, millis(1_500..2_500)),
        _ => Chaos::DeadCable(gateway, millis(200..900)),
    }
}

#[test]
fn a_seed_repeats_a_plan() {
    let (first, again, other) = (Plan::of(7, 2_000), Plan::of(7, 2_000), Plan::of(8, 2_000));
    assert_eq!((&first.clients, &first.chaos), (&again.clients, &again.chaos));
    assert_ne!(first.clients, other.clients);
    assert_eq!(first.clients.iter().map(Vec::len).sum::<usize>(), 2_000);
}
