//! Carries a plan out on a real fleet, and writes down what was seen.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::plan::{Act, Chaos, GATEWAYS, Plan, Step};
use super::record::{History, Key, Operation, Outcome, Revocation, Use};
use crate::support::wait::{Moment, PATIENCE, eventually, moment, moment_of, pause};
use crate::support::{Answer, Connection, Fleet, RedisServer, Request, Upstream};

/// Short, so that what holds only then is seen to hold.
const MAX_STALENESS: Duration = Duration::from_secs(2);
/// Keys that are used; who is made pushes out the oldest, dead or alive.
const IN_PLAY: usize = 64;

/// Does all of it. In the end, when chaos is over, the fleet must agree on every key that is still in play.
pub fn carry_out(plan: &Plan) -> History {
    let mut fleet = Fleet::on(RedisServer::start(), Upstream::forgetful(), GATEWAYS, |_, builder| {
        builder
            // Longer than that: what is cached wrongly is seen for long.
            .set("KEYGATE_CACHE__TTL_S", "6")
            .set("KEYGATE_CACHE__MAX_STALENESS_S", &MAX_STALENESS.as_secs().to_string())
            .set("KEYGATE_LOOKUP__TIMEOUT_MS", "300")
            .set("KEYGATE_REVOCATION__RECEIPT_TIMEOUT_MS", "250")
            .set("KEYGATE_REVOCATION__CANARY_INTERVAL_S", "1")
    });
    let stage = Arc::new(Stage {
        addresses: fleet.gateways.iter().map(|gateway| gateway.address()).collect(),
        admins: fleet.gateways.iter().map(|gateway| gateway.admin()).collect(),
        ids: fleet.gateways.iter().map(|gateway| gateway.admin().gateway_id()).collect(),
        keys: Mutex::default(),
        done: AtomicUsize::new(0),
        over: AtomicBool::new(false),
        oddities: Mutex::default(),
    });
    let mut first = Client::of(&stage);
    for number in 0..IN_PLAY / 2 {
        first.create(number % GATEWAYS);
    }
    let mut operations = first.record;

    thread::scope(|scope| {
        let clients: Vec<_> = plan
            .clients
            .iter()
            .map(|steps| {
                let mut client = Client::of(&stage);
                scope.spawn(move || {
                    for step in steps {
                        client.take(*step);
                        pause(plan.rest);
                    }
                    client.record
                })
            })
            .collect();
        let (chaos, fleet, stage) = (&plan.chaos, &mut fleet, &stage);
        let chaos = scope.spawn(move || make_chaos(chaos, fleet, stage));
        for client in clients {
            operations.extend(client.join().expect("a client writes down what fails"));
        }
        stage.over.store(true, Ordering::SeqCst);
        let acts = chaos.join().expect("chaos does not fail");
        eprintln!("history: {acts} acts of chaos");
    });

    operations.extend(agree(&stage));
    let oddities = std::mem::take(&mut *stage.oddities.lock().unwrap());
    History { operations, gateways: GATEWAYS, max_staleness: MAX_STALENESS, oddities }
}

/// What clients share.
struct Stage {
    addresses: Vec<std::net::SocketAddr>,
    admins: Vec<crate::support::admin::Admin>,
    ids: Vec<String>,
    keys: Mutex<Keys>,
    /// Operations that are done.
    done: AtomicUsize,
    /// Whether all of them are.
    over: AtomicBool,
    oddities: Mutex<Vec<String>>,
}

#[derive(Default)]
struct Keys {
    count: usize,
    in_play: VecDeque<Arc<Known>>,
}

/// A key that clients know.
struct Known {
    number: Key,
    id: String,
    key: String,
    /// Whether somebody has tried to revoke it.
    doomed: AtomicBool,
    /// Whether somebody was told that it is revoked.
    dead: AtomicBool,
    /// How often somebody has tried to rotate it.
    rotations: AtomicUsize,
}

impl Stage {
    fn add(&self, json: &Value) -> Option<Arc<Known>> {
        let mut keys = self.keys.lock().unwrap();
        let known = Arc::new(Known {
            number: keys.count,
            id: json["id"].as_str()?.to_owned(),
            key: json["key"].as_str()?.to_owned(),
            doomed: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            rotations: AtomicUsize::new(0),
        });
        keys.count += 1;
        keys.in_play.push_back(Arc::clone(&known));
        if keys.in_play.len() > IN_PLAY {
            keys.in_play.pop_front();
        }
        Some(known)
    }

    fn choose(&self, choice: u64) -> Arc<Known> {
        let keys = self.keys.lock().unwrap();
        Arc::clone(&keys.in_play[(choice % keys.in_play.len() as u64) as usize])
    }

    fn odd(&self, what: String) {
        self.oddities.lock().unwrap().push(what);
    }
}

/// One client, with a connection to each gateway and a record of its own.
struct Client {
    stage: Arc<Stage>,
    connections: Vec<Option<Connection>>,
    record: Vec<Operation>,
}

impl Client {
    fn of(stage: &Arc<Stage>) -> Client {
        let connections = (0..GATEWAYS).map(|_| None).collect();
        Client { stage: Arc::clone(stage), connections, record: Vec::new() }
    }

    fn take(&mut self, Step { gateway, choice, act }: Step) {
        let known = self.stage.choose(choice);
        match act {
            Act::Create => drop(self.create(gateway)),
            Act::Use => drop(self.use_key(gateway, &known)),
            Act::Revoke { by_key } => {
                self.revoke(gateway, &known, by_key);
                // Right behind the receipt is where a promise would break.
                (0..GATEWAYS).for_each(|gateway| drop(self.use_key(gateway, &known)));
            }
            Act::Rotate { grace_s } => {
                let new = self.rotate(gateway, &known, grace_s);
                for known in [Some(known), new].into_iter().flatten() {
                    (0..GATEWAYS).for_each(|gateway| drop(self.use_key(gateway, &known)));
                }
            }
        }
        self.stage.done.fetch_add(1, Ordering::SeqCst);
    }

    fn note(&mut self, key: Key, gateway: usize, began: Moment, outcome: Outcome) {
        self.record.push(Operation { key, gateway, began, ended: moment(), outcome });
    }

    fn create(&mut self, gateway: usize) -> Option<Arc<Known>> {
        let began = moment();
        let body = json!({"label": "History", "environment": "live", "team": "acme"});
        // A creation that nobody heard of has made a key that nobody can use.
        let answer = self.stage.admins[gateway].try_post("/v1/keys", &body).ok()?;
        if answer.status != 201 {
            self.expect_unavailable("create", &answer);
            return None;
        }
        let known = self.stage.add(&answer.json())?;
        self.note(known.number, gateway, began, Outcome::Created);
        Some(known)
    }

    fn use_key(&mut self, gateway: usize, known: &Known) -> Use {
        let began = moment();
        let how = match self.ask(gateway, &known.key) {
            Ok(answer) if answer.status == 200 => Use::Accepted,
            Ok(answer) => match (answer.status, answer.code().as_str()) {
                (401, "key_revoked") => Use::Dead,
                (401, "key_expired") => Use::Expired,
                (503, "verification_unavailable" | "overloaded") => Use::Unavailable,
                _ => Use::Denied(answer.text()),
            },
            Err(_) => Use::Lost,
        };
        self.note(known.number, gateway, began, Outcome::Used(how.clone()));
        how
    }

    fn ask(&mut self, gateway: usize, key: &str) -> io::Result<Answer> {
        let connection = self.connections[gateway].take();
        let mut connection =
            connection.map_or_else(|| Connection::try_open(self.stage.addresses[gateway]), Ok)?;
        let answer = connection.try_ask(&Request::get("/v1/wallets/wlt_1").key(key))?;
        if !answer.headers.asks_to_close() {
            self.connections[gateway] = Some(connection);
        }
        Ok(answer)
    }

    fn revoke(&mut self, gateway: usize, known: &Known, by_key: bool) {
        known.doomed.store(true, Ordering::SeqCst);
        let began = moment();
        let admin = &self.stage.admins[gateway];
        let answered = if by_key {
            admin.try_post("/v1/keys/revoke", &json!({"key": known.key}))
        } else {
            admin.try_post(&format!("/v1/keys/{}/revoke", known.id), &json!({}))
        };
        let revocation = match answered {
            Ok(answer) if answer.status == 200 => self.read_receipt(&answer.json()["revocation"]),
            Ok(answer) if answer.code() == "revocation_not_stored" => Revocation::HereOnly,
            Ok(answer) => {
                self.expect_unavailable("revoke", &answer);
                Revocation::Perhaps
            }
            Err(_) => Revocation::Perhaps,
        };
        known.dead.fetch_or(revocation != Revocation::Perhaps, Ordering::SeqCst);
        self.note(known.number, gateway, began, Outcome::Revoked(revocation));
    }

    fn read_receipt(&self, receipt: &Value) -> Revocation {
        let named: Vec<&str> = receipt["unacknowledged"]
            .as_array()
            .map(|lines| lines.iter().filter_map(|line| line["id"].as_str()).collect())
            .unwrap_or_default();
        let count = |member: &str| receipt[member].as_u64().unwrap_or(u64::MAX);
        let adds_up = count("acknowledged").saturating_add(named.len() as u64) == count("gateways");
        let effective_by = receipt["effective_by"].as_str().map(moment_of);
        let Some(effective_by) = effective_by.filter(|_| adds_up) else {
            self.stage.odd(format!("a receipt that does not add up: {receipt}"));
            return Revocation::Perhaps;
        };
        let everybody = 0..GATEWAYS;
        let acknowledged = if count("gateways") == GATEWAYS as u64 {
            everybody.filter(|&gateway| !named.contains(&self.stage.ids[gateway].as_str())).collect()
        } else if effective_by > moment() + 10 * MAX_STALENESS {
            // The roll could not be read: it promises the longest time that there is.
            Default::default()
        } else {
            self.stage.odd(format!("a receipt that does not count every gateway: {receipt}"));
            Default::default()
        };
        Revocation::Receipt { acknowledged, effective_by }
    }

    fn rotate(&mut self, gateway: usize, known: &Known, grace_s: u64) -> Option<Arc<Known>> {
        known.rotations.fetch_add(1, Ordering::SeqCst);
        let grace = Duration::from_secs(grace_s);
        let began = moment();
        let path = format!("/v1/keys/{}/rotate", known.id);
        let answered = self.stage.admins[gateway].try_post(&path, &json!({"grace": format!("{grace_s}s")}));
        let perhaps = Outcome::PerhapsRotated { grace };
        let Ok(answer) = answered else {
            self.note(known.number, gateway, began, perhaps);
            return None;
        };
        match answer.status {
            201 => {
                let json = answer.json();
                let ends = json["old"]["retires_at"].as_str().map(moment_of);
                let outcome = ends.map_or(perhaps, |ends| Outcome::Rotated { ends });
                self.note(known.number, gateway, began, outcome);
                let new = self.stage.add(&json)?;
                self.note(new.number, gateway, began, Outcome::Created);
                Some(new)
            }
            // Dead, ended or rotated before: nothing happened.
            409 => {
                let excused =
                    known.doomed.load(Ordering::SeqCst) || known.rotations.load(Ordering::SeqCst) > 1;
                if !excused {
                    self.stage.odd(format!("a living key could not be rotated: {}", answer.text()));
                }
                None
            }
            _ => {
                self.expect_unavailable("rotate", &answer);
                self.note(known.number, gateway, began, perhaps);
                None
            }
        }
    }

    fn expect_unavailable(&self, what: &str, answer: &Answer) {
        if answer.status != 503 {
            self.stage.odd(format!("{what}: {} {}", answer.status, answer.text()));
        }
    }
}

/// Does what the plan says to the fleet, when it says so; how much of it before all operations were done.
fn make_chaos(plan: &[(usize, Chaos)], fleet: &mut Fleet, stage: &Stage) -> usize {
    for (acts, (after, chaos)) in plan.iter().enumerate() {
        while stage.done.load(Ordering::SeqCst) < *after {
            if stage.over.load(Ordering::SeqCst) {
                return acts;
            }
            pause(Duration::from_millis(5));
        }
        match *chaos {
            Chaos::KillSubscribers => drop(fleet.redis.kill_subscribers()),
            Chaos::KillClients => drop(fleet.redis.run::<i64>(&["CLIENT", "KILL", "TYPE", "normal"])),
            Chaos::FreezeRedis(time) => {
                fleet.redis.freeze();
                pause(time);
                fleet.redis.thaw();
            }
            Chaos::RestartRedis => {
                fleet.redis.kill();
                fleet.redis.start_again();
            }
            Chaos::TrimLogs(gateway, time) => {
                fleet.cables[gateway].go_dead();
                pause(time);
                for shard in 0..16 {
                    let log = format!("keygate:{{{shard:x}}}:log");
                    let _: i64 = fleet.redis.run(&["XTRIM", &log, "MAXLEN", "0"]);
                }
                // What lies in the cable would tell it after all.
                fleet.cables[gateway].cut();
                fleet.cables[gateway].come_alive();
            }
            Chaos::FreezeGateway(gateway, time) => {
                fleet.gateways[gateway].freeze();
                pause(time);
                fleet.gateways[gateway].thaw();
            }
            Chaos::LoseMessages(gateway, which, time) => {
                fleet.cables[gateway].lose_messages(which);
                pause(time);
                fleet.cables[gateway].keep_messages();
            }
            Chaos::DeadCable(gateway, time) => {
                fleet.cables[gateway].go_dead();
                pause(time);
                fleet.cables[gateway].come_alive();
            }
            Chaos::CutCable(gateway) => fleet.cables[gateway].cut(),
        }
    }
    plan.len()
}

/// When chaos is over: on every key in play the gateways are soon of one mind, and it is what its clients were told.
fn agree(stage: &Arc<Stage>) -> Vec<Operation> {
    let in_play: Vec<_> = stage.keys.lock().unwrap().in_play.iter().cloned().collect();
    let mut client = Client::of(stage);
    for known in in_play {
        eventually(&format!("the gateways agree on the key {}", known.id), PATIENCE, || {
            let judged: Vec<_> = (0..GATEWAYS).map(|gateway| client.use_key(gateway, &known)).collect();
            let as_told = match judged[0] {
                Use::Accepted => !known.dead.load(Ordering::SeqCst),
                Use::Dead => known.doomed.load(Ordering::SeqCst),
                Use::Expired => {
                    known.rotations.load(Ordering::SeqCst) > 0 && !known.dead.load(Ordering::SeqCst)
                }
                _ => false,
            };
            as_told && judged.iter().all(|each| *each == judged[0])
        });
    }
    client.record
}
