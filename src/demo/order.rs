//! What a client may ask the sample API to do: the bodies of its POSTs, checked.

use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::answer::{Answer, Refusal};
use super::ledger::{Ledger, LedgerError};
use crate::model::Timestamp;

const MAX_TEXT_CHARS: usize = 200;

/// Something that changes the ledger.
#[derive(Debug)]
pub(crate) enum Order {
    CreateWallet(CreateWallet),
    TransferP2p(TransferP2p),
    TransferBank(TransferBank),
    CreateQrCode(CreateQrCode),
    PayQrCode(PayQrCode),
}

#[derive(Debug, Deserialize)]
pub(crate) struct CreateWallet {
    #[serde(default)]
    name: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct TransferP2p {
    from_wallet_id: String,
    to_wallet_id: String,
    amount: u64,
    #[serde(default)]
    narration: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct TransferBank {
    from_wallet_id: String,
    bank_code: String,
    account_number: String,
    amount: u64,
    #[serde(default)]
    narration: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct CreateQrCode {
    wallet_id: String,
    amount: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PayQrCode {
    qr_id: String,
    from_wallet_id: String,
}

impl Order {
    pub(crate) fn create_wallet(body: &[u8]) -> Result<Order, Refusal> {
        let order: CreateWallet = parse(body)?;
        short("name", &order.name)?;
        Ok(Order::CreateWallet(order))
    }

    pub(crate) fn transfer_p2p(body: &[u8]) -> Result<Order, Refusal> {
        let order: TransferP2p = parse(body)?;
        short("from_wallet_id", &order.from_wallet_id)?;
        short("to_wallet_id", &order.to_wallet_id)?;
        short("narration", &order.narration)?;
        Ok(Order::TransferP2p(order))
    }

    pub(crate) fn transfer_bank(body: &[u8]) -> Result<Order, Refusal> {
        let order: TransferBank = parse(body)?;
        short("from_wallet_id", &order.from_wallet_id)?;
        short("narration", &order.narration)?;
        digits("bank_code", &order.bank_code, 3..=6)?;
        digits("account_number", &order.account_number, 10..=10)?;
        Ok(Order::TransferBank(order))
    }

    pub(crate) fn create_qr_code(body: &[u8]) -> Result<Order, Refusal> {
        let order: CreateQrCode = parse(body)?;
        short("wallet_id", &order.wallet_id)?;
        Ok(Order::CreateQrCode(order))
    }

    pub(crate) fn pay_qr_code(body: &[u8]) -> Result<Order, Refusal> {
        let order: PayQrCode = parse(body)?;
        short("qr_id", &order.qr_id)?;
        short("from_wallet_id", &order.from_wallet_id)?;
        Ok(Order::PayQrCode(order))
    }

    /// Does it, and says what came of it.
    pub(crate) fn carry_out(
        &self,
        ledger: &mut Ledger,
        team: &str,
        now: Timestamp,
    ) -> Result<Answer, LedgerError> {
        Ok(match self {
            Order::CreateWallet(order) => {
                let wallet = ledger.create_wallet(team, order.name.clone(), now)?;
                Answer::data(StatusCode::ACCEPTED, &wallet)
            }
            Order::TransferP2p(order) => {
                let wallets = (order.from_wallet_id.as_str(), order.to_wallet_id.as_str());
                let debit = ledger.transfer(team, wallets, order.amount, &order.narration, now)?;
                Answer::data(StatusCode::CREATED, &debit)
            }
            Order::TransferBank(order) => {
                let account = format!("{}/{}", order.bank_code, order.account_number);
                let from = &order.from_wallet_id;
                let debit = ledger.pay_out(team, from, &account, order.amount, &order.narration, now)?;
                Answer::data(StatusCode::CREATED, &debit)
            }
            Order::CreateQrCode(order) => {
                let code = ledger.create_qr_code(team, &order.wallet_id, order.amount, now)?;
                Answer::data(StatusCode::CREATED, &code)
            }
            Order::PayQrCode(order) => {
                let debit = ledger.pay_qr_code(team, &order.qr_id, &order.from_wallet_id, now)?;
                Answer::data(StatusCode::CREATED, &debit)
            }
        })
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::invalid(format!("the body: {error}")))
}

fn short(field: &str, text: &str) -> Result<(), Refusal> {
    if text.chars().count() <= MAX_TEXT_CHARS {
        Ok(())
    } else {
        Err(Refusal::invalid(format!("{field}: at most {MAX_TEXT_CHARS} characters")))
    }
}

fn digits(field: &str, text: &str, count: std::ops::RangeInclusive<usize>) -> Result<(), Refusal> {
    if count.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(())
    } else {
        Err(Refusal::invalid(format!("{field}: {} to {} digits are needed", count.start(), count.end())))
    }
}
