//! The vocabulary's types, as the API's document describes them.

use std::borrow::Cow;

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::model::{
    Account, Environment, GatewayId, Head, KeyHash, KeyId, KeyStatus, Role, Team, Timestamp, UserId,
};
use crate::store::Mark;

/// A type that is text of a certain form.
macro_rules! text {
    ($($type:ty, $name:literal, $pattern:literal, $example:literal, $description:literal;)*) => {
        $(
            impl PartialSchema for $type {
                fn schema() -> RefOr<Schema> {
                    ObjectBuilder::new()
                        .schema_type(Type::String)
                        .pattern(Some($pattern))
                        .examples([$example])
                        .description(Some($description))
                        .into()
                }
            }

            impl ToSchema for $type {
                fn name() -> Cow<'static, str> {
                    Cow::Borrowed($name)
                }
            }
        )*
    };
}

text! {
    KeyId, "KeyId", "^key_[0-9a-f]{20}$", "key_a991a09f4b6c244627a4", "The public name of a key. It says nothing about it.";
    KeyHash, "Sha256", "^[0-9a-fA-F]{64}$", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "A SHA-256, in hex.";
    GatewayId, "GatewayId", "^gw_[0-9a-f]{16}$", "gw_00c0ffee00c0ffee", "The name of a run of a gateway.";
    Head, "Position", "^[0-9]+-[0-9a-f]{16}$", "17-00c0ffee00c0ffee", "A place in the log of a shard.";
    UserId, "UserId", "^usr_[0-9a-f]{20}$", "usr_4a8bf4c9cbbd1a7fd0a2", "The public name of a user.";
    Account, "Account", "^[a-z0-9._+@-]{1,254}$", "ada@example.com", "An e-mail address or a name to log in with.";
    Team, "Team", "^[A-Za-z0-9_.-]{1,64}$", "payments", "Who has keys, and sees no others.";
}

/// A type that is one of a few words.
macro_rules! choice {
    ($($type:ty, $name:literal, $description:literal, [$($value:expr),*];)*) => {
        $(
            impl PartialSchema for $type {
                fn schema() -> RefOr<Schema> {
                    let words = [$($value),*].map(|value| serde_json::to_value(value).unwrap_or_default());
                    ObjectBuilder::new()
                        .schema_type(Type::String)
                        .enum_values(Some(words))
                        .description(Some($description))
                        .into()
                }
            }

            impl ToSchema for $type {
                fn name() -> Cow<'static, str> {
                    Cow::Borrowed($name)
                }
            }
        )*
    };
}

choice! {
    Environment, "Environment", "Live is real money; Sandbox is for testing.", [Environment::Live, Environment::Sandbox];
    KeyStatus, "KeyStatus", "What a key is worth now.",
        [KeyStatus::Active, KeyStatus::Rotating, KeyStatus::Expired, KeyStatus::Revoked];
    Role, "Role", "What a user may do: see keys; make, change, rotate and revoke them too; and manage users.",
        [Role::Viewer, Role::Editor, Role::Admin];
    Mark, "Mark", "Something about a key that its team should know.",
        [Mark::Expiring, Mark::Idle, Mark::NeverUsed, Mark::RotationDue];
}

impl PartialSchema for Timestamp {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .examples(["2026-01-31T12:00:00.000Z"])
            .description(Some("A moment, as RFC 3339 writes it."))
            .into()
    }
}

impl ToSchema for Timestamp {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Moment")
    }
}
