//! What a client of the sample API hears: `{"data": …}`, or `{"error": …, "message": …}`.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::ledger::LedgerError;

/// A message repeats at most so much of what a client sent.
const MAX_MESSAGE_CHARS: usize = 300;
const REMEMBERED_ANSWERS: usize = 10_000;

/// An answer, ready to be sent; cheap to repeat.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// JSON.
    pub(crate) body: Bytes,
    /// The value of `Allow`, for a 405.
    pub(crate) allow: Option<&'static str>,
}

impl Answer {
    pub(crate) fn json(status: StatusCode, body: &Value) -> Answer {
        Answer { status, body: Bytes::from(body.to_string()), allow: None }
    }

    /// A success, in the envelope.
    pub(crate) fn data(status: StatusCode, data: &impl Serialize) -> Answer {
        Answer::json(status, &json!({ "data": data }))
    }
}

/// A refusal, in the words of the API.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    error: &'static str,
    message: String,
    allow: Option<&'static str>,
}

impl Refusal {
    pub(crate) fn invalid(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", message)
    }

    pub(crate) fn no_such_route() -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "NOT_FOUND", "there is nothing at this path")
    }

    pub(crate) fn method_not_allowed(allowed: &'static str) -> Refusal {
        let message = format!("this path takes {allowed}");
        let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message);
        Refusal { allow: Some(allowed), ..refusal }
    }

    pub(crate) fn body_too_large(limit: usize) -> Refusal {
        let message = format!("a body has at most {limit} bytes");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", message)
    }

    pub(crate) fn body_too_slow() -> Refusal {
        Refusal::new(StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", "the body took too long")
    }

    /// The request did not come through the gateway of this environment: a fault of the house, not of the client.
    pub(crate) fn not_from_the_gateway(message: String) -> Refusal {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", message)
    }

    pub(crate) fn into_answer(self) -> Answer {
        let body = json!({ "error": self.error, "message": self.message });
        Answer { allow: self.allow, ..Answer::json(self.status, &body) }
    }

    fn new(status: StatusCode, error: &'static str, message: impl Into<String>) -> Refusal {
        let mut message = message.into();
        if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE_CHARS) {
            message.truncate(end);
        }
        Refusal { status, error, message, allow: None }
    }
}

impl From<LedgerError> for Refusal {
    fn from(error: LedgerError) -> Refusal {
        let (status, code) = match &error {
            LedgerError::WalletNotFound(_) => (StatusCode::NOT_FOUND, "WALLET_NOT_FOUND"),
            LedgerError::QrCodeNotFound(_) => (StatusCode::NOT_FOUND, "QR_CODE_NOT_FOUND"),
            LedgerError::QrCodePaid(_) => (StatusCode::CONFLICT, "QR_CODE_ALREADY_PAID"),
            LedgerError::InsufficientFunds { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "INSUFFICIENT_FUNDS"),
            LedgerError::Invalid(_) => (StatusCode::BAD_REQUEST, "VALIDATION_ERROR"),
            LedgerError::Full => (StatusCode::INSUFFICIENT_STORAGE, "SAMPLE_FULL"),
        };
        Refusal::new(status, code, error.to_string())
    }
}

/// The answers that were given under an idempotency key, the newest.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// By team and key: two teams that use the same key do not meet.
    given: HashMap<(String, String), Given>,
    oldest_first: VecDeque<(String, String)>,
}

#[derive(Debug)]
struct Given {
    fingerprint: [u8; 32],
    answer: Answer,
}

impl Answers {
    /// The answer that this key was given before; a conflict if it was given to another request.
    pub(crate) fn given(
        &self,
        team: &str,
        key: &str,
        fingerprint: &[u8; 32],
    ) -> Result<Option<Answer>, Refusal> {
        match self.given.get(&(team.to_owned(), key.to_owned())) {
            None => Ok(None),
            Some(given) if given.fingerprint == *fingerprint => Ok(Some(given.answer.clone())),
            Some(_) => Err(Refusal::new(
                StatusCode::CONFLICT,
                "IDEMPOTENCY_CONFLICT",
                "this Idempotency-Key was used for another request",
            )),
        }
    }

    pub(crate) fn remember(&mut self, team: &str, key: &str, fingerprint: &[u8; 32], answer: Answer) {
        let place = (team.to_owned(), key.to_owned());
        let given = Given { fingerprint: *fingerprint, answer };
        if self.given.insert(place.clone(), given).is_none() {
            self.oldest_first.push_back(place);
        }
        if self.oldest_first.len() > REMEMBERED_ANSWERS
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.given.remove(&oldest);
        }
    }
}

/// What two requests must share to be the same: path and body.
pub(crate) fn fingerprint(path: &str, body: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(path).chain_update(b"\n").chain_update(body).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_remembered_up_to_a_bound() {
        let mut answers = Answers::default();
        let answer = Answer::data(StatusCode::OK, &1);
        for number in 0..=REMEMBERED_ANSWERS {
            answers.remember("acme", &number.to_string(), &[0; 32], answer.clone());
        }
        assert_eq!(answers.given.len(), REMEMBERED_ANSWERS);
        assert!(answers.given("acme", "0", &[0; 32]).unwrap().is_none(), "the oldest was forgotten");
        assert!(answers.given("acme", "1", &[0; 32]).unwrap().is_some());
        assert!(
            answers.given("other", "1", &[1; 32]).unwrap().is_none(),
            "another team's key is another key"
        );
    }

    #[test]
    fn a_message_repeats_little_of_what_a_client_sent() {
        let refusal = Refusal::invalid("ä".repeat(10_000));
        assert_eq!(refusal.message.chars().count(), MAX_MESSAGE_CHARS);
    }
}
