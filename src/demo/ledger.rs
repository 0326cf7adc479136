//! The sample API's state: wallets, and money that really moves between them.
//!
//! Amounts are integers in kobo (NGN). Every collection is bounded; what a bound throws away is the oldest
//! transaction or QR code, never a balance.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use serde::Serialize;

use crate::model::Timestamp;

/// The wallets that every team finds when it first comes, and what is in them, in kobo.
const SEEDS: [(&str, &str, u64); 2] =
    [("wlt_1", "Main wallet", 10_000_000), ("wlt_2", "Second wallet", 2_500_000)];

/// Largest amount of one transfer, in kobo: far from where a sum of balances could overflow.
pub(crate) const MAX_AMOUNT: u64 = 1_000_000_000_000;

/// How much a ledger holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Wallets of all teams together.
    pub(crate) wallets: usize,
    /// Transactions remembered, the newest.
    pub(crate) transactions: usize,
    /// QR codes remembered, the newest.
    pub(crate) qr_codes: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { wallets: 100_000, transactions: 100_000, qr_codes: 10_000 }
    }
}

/// The wallets of every team in one environment.
#[derive(Debug)]
pub(crate) struct Ledger {
    bounds: Bounds,
    teams: HashSet<String>,
    /// By `team/wallet`: a team sees its own wallets only.
    wallets: HashMap<String, Wallet>,
    transactions: BTreeMap<u64, Entry>,
    qr_codes: BTreeMap<u64, QrCode>,
    last_wallet: u64,
    last_transaction: u64,
    last_qr_code: u64,
}

/// A wallet as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Wallet {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Kobo.
    pub(crate) balance: u64,
    pub(crate) currency: &'static str,
    pub(crate) created_at: Timestamp,
    /// Numbers of the wallet's transactions, oldest first.
    #[serde(skip)]
    history: VecDeque<u64>,
}

/// One side of a movement of money, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Transaction {
    pub(crate) id: String,
    pub(crate) wallet_id: String,
    #[serde(rename = "type")]
    pub(crate) direction: Direction,
    /// Kobo.
    pub(crate) amount: u64,
    pub(crate) currency: &'static str,
    pub(crate) counterparty: String,
    pub(crate) narration: String,
    pub(crate) status: &'static str,
    pub(crate) created_at: Timestamp,
}

/// Whether money came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Direction {
    Credit,
    Debit,
}

/// A request for money, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct QrCode {
    pub(crate) id: String,
    pub(crate) wallet_id: String,
    /// Kobo.
    pub(crate) amount: u64,
    pub(crate) currency: &'static str,
    pub(crate) payload: String,
    pub(crate) status: &'static str,
    pub(crate) created_at: Timestamp,
    #[serde(skip)]
    team: String,
}

/// One page of a wallet's transactions, newest first.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TransactionPage {
    pub(crate) transactions: Vec<Transaction>,
    pub(crate) next_cursor: Option<String>,
}

/// Why a ledger did not do what it was asked for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum LedgerError {
    #[error("no wallet {0}")]
    WalletNotFound(String),
    #[error("the wallet holds {balance} kobo, {amount} are needed")]
    InsufficientFunds { balance: u64, amount: u64 },
    #[error("{0}")]
    Invalid(&'static str),
    #[error("no QR code {0}")]
    QrCodeNotFound(String),
    #[error("the QR code {0} was paid before")]
    QrCodePaid(String),
    #[error("the sample holds no more wallets")]
    Full,
}

#[derive(Debug)]
struct Entry {
    wallet: String,
    transaction: Transaction,
}

impl Ledger {
    pub(crate) fn new(bounds: Bounds) -> Ledger {
        Ledger {
            bounds,
            teams: HashSet::new(),
            wallets: HashMap::new(),
            transactions: BTreeMap::new(),
            qr_codes: BTreeMap::new(),
            last_wallet: SEEDS.len() as u64,
            last_transaction: 0,
            last_qr_code: 0,
        }
    }

    /// Sees to it that `team` has its first wallets.
    pub(crate) fn welcome(&mut self, team: &str, now: Timestamp) -> Result<(), LedgerError> {
        if self.teams.contains(team) {
            return Ok(());
        }
        if self.wallets.len() + SEEDS.len() > self.bounds.wallets {
            return Err(LedgerError::Full);
        }
        for (id, name, balance) in SEEDS {
            self.wallets.insert(place(team, id), Wallet::new(id.to_owned(), name.to_owned(), balance, now));
        }
        self.teams.insert(team.to_owned());
        Ok(())
    }

    /// Opens an empty wallet.
    pub(crate) fn create_wallet(
        &mut self,
        team: &str,
        name: String,
        now: Timestamp,
    ) -> Result<Wallet, LedgerError> {
        if self.wallets.len() >= self.bounds.wallets {
            return Err(LedgerError::Full);
        }
        self.last_wallet += 1;
        let wallet = Wallet::new(format!("wlt_{}", self.last_wallet), name, 0, now);
        self.wallets.insert(place(team, &wallet.id), wallet.clone());
        Ok(wallet)
    }

    pub(crate) fn wallet(&self, team: &str, id: &str) -> Result<&Wallet, LedgerError> {
        self.wallets.get(&place(team, id)).ok_or_else(|| LedgerError::WalletNotFound(id.to_owned()))
    }

    /// Up to `limit` transactions of a wallet, newest first, behind the one that `cursor` names.
    pub(crate) fn transactions(
        &self,
        team: &str,
        id: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<TransactionPage, LedgerError> {
        let wallet = self.wallet(team, id)?;
        let before = match cursor {
            None => u64::MAX,
            Some(cursor) => transaction_number(cursor)
                .ok_or(LedgerError::Invalid("cursor: not one that this API handed out"))?,
        };
        let mut rest = wallet.history.iter().rev().filter(|&&number| number < before);
        let transactions: Vec<Transaction> = rest
            .by_ref()
            .take(limit)
            .filter_map(|number| self.transactions.get(number))
            .map(|entry| entry.transaction.clone())
            .collect();
        let next_cursor = match rest.next() {
            Some(_) => transactions.last().map(|transaction| transaction.id.clone()),
            None => None,
        };
        Ok(TransactionPage { transactions, next_cursor })
    }

    /// Moves money between two wallets of a team and answers with the debit.
    pub(crate) fn transfer(
        &mut self,
        team: &str,
        (from, to): (&str, &str),
        amount: u64,
        narration: &str,
        now: Timestamp,
    ) -> Result<Transaction, LedgerError> {
        if from == to {
            return Err(LedgerError::Invalid("to_wallet_id: the same as from_wallet_id"));
        }
        self.wallet(team, to)?;
        self.take(team, from, amount)?;
        self.wallets.entry(place(team, to)).and_modify(|wallet| wallet.balance += amount);
        let debit = self.note(team, from, Direction::Debit, amount, to, narration, now);
        self.note(team, to, Direction::Credit, amount, from, narration, now);
        Ok(debit)
    }

    /// Moves money out to a bank account.
    pub(crate) fn pay_out(
        &mut self,
        team: &str,
        from: &str,
        account: &str,
        amount: u64,
        narration: &str,
        now: Timestamp,
    ) -> Result<Transaction, LedgerError> {
        self.take(team, from, amount)?;
        Ok(self.note(team, from, Direction::Debit, amount, account, narration, now))
    }

    /// Makes a QR code that asks for `amount` into a wallet.
    pub(crate) fn create_qr_code(
        &mut self,
        team: &str,
        wallet: &str,
        amount: u64,
        now: Timestamp,
    ) -> Result<QrCode, LedgerError> {
        positive(amount)?;
        self.wallet(team, wallet)?;
        self.last_qr_code += 1;
        let id = format!("qr_{}", self.last_qr_code);
        let code = QrCode {
            payload: format!("sample:{id}:{amount}"),
            id,
            wallet_id: wallet.to_owned(),
            amount,
            currency: "NGN",
            status: "pending",
            created_at: now,
            team: team.to_owned(),
        };
        self.qr_codes.insert(self.last_qr_code, code.clone());
        if self.qr_codes.len() > self.bounds.qr_codes {
            self.qr_codes.pop_first();
        }
        Ok(code)
    }

    /// Pays a QR code of the same team, once.
    pub(crate) fn pay_qr_code(
        &mut self,
        team: &str,
        id: &str,
        from: &str,
        now: Timestamp,
    ) -> Result<Transaction, LedgerError> {
        let not_found = || LedgerError::QrCodeNotFound(id.to_owned());
        let number = id.strip_prefix("qr_").and_then(|text| text.parse().ok()).ok_or_else(not_found)?;
        let code = self.qr_codes.get(&number).filter(|code| code.team == team).ok_or_else(not_found)?;
        if code.status == "paid" {
            return Err(LedgerError::QrCodePaid(id.to_owned()));
        }
        let (to, amount) = (code.wallet_id.clone(), code.amount);
        let debit = self.transfer(team, (from, &to), amount, &format!("QR payment {id}"), now)?;
        if let Some(code) = self.qr_codes.get_mut(&number) {
            code.status = "paid";
        }
        Ok(debit)
    }

    fn take(&mut self, team: &str, from: &str, amount: u64) -> Result<(), LedgerError> {
        positive(amount)?;
        let wallet = self
            .wallets
            .get_mut(&place(team, from))
            .ok_or_else(|| LedgerError::WalletNotFound(from.to_owned()))?;
        if wallet.balance < amount {
            return Err(LedgerError::InsufficientFunds { balance: wallet.balance, amount });
        }
        wallet.balance -= amount;
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "one line of a ledger has that many columns")]
    fn note(
        &mut self,
        team: &str,
        wallet: &str,
        direction: Direction,
        amount: u64,
        counterparty: &str,
        narration: &str,
        now: Timestamp,
    ) -> Transaction {
        self.last_transaction += 1;
        let transaction = Transaction {
            id: format!("txn_{}", self.last_transaction),
            wallet_id: wallet.to_owned(),
            direction,
            amount,
            currency: "NGN",
            counterparty: counterparty.to_owned(),
            narration: narration.to_owned(),
            status: "successful",
            created_at: now,
        };
        let place = place(team, wallet);
        if let Some(wallet) = self.wallets.get_mut(&place) {
            wallet.history.push_back(self.last_transaction);
        }
        let entry = Entry { wallet: place, transaction: transaction.clone() };
        self.transactions.insert(self.last_transaction, entry);
        if self.transactions.len() > self.bounds.transactions {
            self.forget_oldest_transaction();
        }
        transaction
    }

    fn forget_oldest_transaction(&mut self) {
        if let Some((_, oldest)) = self.transactions.pop_first()
            && let Some(wallet) = self.wallets.get_mut(&oldest.wallet)
        {
            // Numbers only grow, so the oldest transaction of all is the oldest of its wallet.
            wallet.history.pop_front();
        }
    }
}

impl Wallet {
    fn new(id: String, name: String, balance: u64, created_at: Timestamp) -> Wallet {
        Wallet { id, name, balance, currency: "NGN", created_at, history: VecDeque::new() }
    }
}

/// A team's name has no slash in it, so no two pairs meet.
fn place(team: &str, wallet: &str) -> String {
    format!("{team}/{wallet}")
}

fn positive(amount: u64) -> Result<(), LedgerError> {
    if (1..=MAX_AMOUNT).contains(&amount) {
        Ok(())
    } else {
        Err(LedgerError::Invalid("amount: an integer in kobo from 1 to 1000000000000 is needed"))
    }
}

fn transaction_number(id: &str) -> Option<u64> {
    id.strip_prefix("txn_")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_764_000_000_000);

    fn ledger(bounds: Bounds) -> Ledger {
        let mut ledger = Ledger::new(bounds);
        ledger.welcome("acme", NOW).unwrap();
        ledger
    }

    fn balance(ledger: &Ledger, id: &str) -> u64 {
        ledger.wallet("acme", id).unwrap().balance
    }

    #[test]
    fn money_moves_and_none_is_made() {
        let mut ledger = ledger(Bounds::default());
        let before = balance(&ledger, "wlt_1") + balance(&ledger, "wlt_2");
        ledger.transfer("acme", ("wlt_1", "wlt_2"), 1_500, "lunch", NOW).unwrap();
        assert_eq!(balance(&ledger, "wlt_1"), 9_998_500);
        assert_eq!(balance(&ledger, "wlt_1") + balance(&ledger, "wlt_2"), before);
    }

    #[test]
    fn a_refused_transfer_moves_nothing() {
        let mut ledger = ledger(Bounds::default());
        let too_much = LedgerError::InsufficientFunds { balance: 10_000_000, amount: 10_000_001 };
        let cases = [
            (("wlt_1", "wlt_2"), 10_000_001, too_much),
            (("wlt_1", "wlt_9"), 1, LedgerError::WalletNotFound("wlt_9".to_owned())),
            (("wlt_9", "wlt_2"), 1, LedgerError::WalletNotFound("wlt_9".to_owned())),
        ];
        for (pair, amount, refusal) in cases {
            assert_eq!(ledger.transfer("acme", pair, amount, "", NOW).unwrap_err(), refusal);
        }
        for (pair, amount) in [(("wlt_1", "wlt_1"), 1), (("wlt_1", "wlt_2"), 0)] {
            let refusal = ledger.transfer("acme", pair, amount, "", NOW).unwrap_err();
            assert!(matches!(refusal, LedgerError::Invalid(_)), "{refusal}");
        }
        assert_eq!((balance(&ledger, "wlt_1"), balance(&ledger, "wlt_2")), (10_000_000, 2_500_000));
        assert!(ledger.transactions("acme", "wlt_1", None, 10).unwrap().transactions.is_empty());
    }

    #[test]
    fn a_qr_code_is_paid_once_and_by_its_own_team() {
        let mut ledger = ledger(Bounds::default());
        ledger.welcome("other", NOW).unwrap();
        let code = ledger.create_qr_code("acme", "wlt_2", 700, NOW).unwrap();
        let stranger = ledger.pay_qr_code("other", &code.id, "wlt_1", NOW).unwrap_err();
        assert_eq!(stranger, LedgerError::QrCodeNotFound(code.id.clone()));
        ledger.pay_qr_code("acme", &code.id, "wlt_1", NOW).unwrap();
        let again = ledger.pay_qr_code("acme", &code.id, "wlt_1", NOW).unwrap_err();
        assert_eq!(again, LedgerError::QrCodePaid(code.id));
        assert_eq!(balance(&ledger, "wlt_2"), 2_500_700);
    }

    #[test]
    fn pages_lose_and_repeat_nothing() {
        let mut ledger = ledger(Bounds::default());
        for amount in 1..=7 {
            ledger.transfer("acme", ("wlt_1", "wlt_2"), amount, "", NOW).unwrap();
        }
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let page = ledger.transactions("acme", "wlt_1", cursor.as_deref(), 3).unwrap();
            seen.extend(page.transactions.iter().map(|transaction| transaction.amount));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, [7, 6, 5, 4, 3, 2, 1]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut ledger = ledger(Bounds { wallets: 3, transactions: 4, qr_codes: 2 });
        ledger.create_wallet("acme", String::new(), NOW).unwrap();
        assert_eq!(ledger.create_wallet("acme", String::new(), NOW).unwrap_err(), LedgerError::Full);
        assert_eq!(ledger.welcome("late", NOW).unwrap_err(), LedgerError::Full);
        for _ in 0..10 {
            ledger.transfer("acme", ("wlt_1", "wlt_2"), 1, "", NOW).unwrap();
            ledger.create_qr_code("acme", "wlt_1", 1, NOW).unwrap();
        }
        assert_eq!((ledger.transactions.len(), ledger.qr_codes.len()), (4, 2));
        let histories: usize = ledger.wallets.values().map(|wallet| wallet.history.len()).sum();
        assert_eq!(histories, 4);
        assert_eq!(balance(&ledger, "wlt_2"), 2_500_010);
    }
}
