//! Which labels say too little about where a key is used.

/// Words that every key could have.
pub(super) const GENERAL: [&str; 16] = [
    "key", "keys", "api", "apikey", "my", "new", "the", "a", "test", "testing", "untitled", "default",
    "token", "secret", "foo", "bar",
];
