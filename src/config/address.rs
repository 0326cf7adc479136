//! Where other things are: the store's URL and the upstreams' origins, as they are written and shown.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

/// Where keys are kept.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// `sqlite:PATH`: embedded, one process.
    Sqlite(PathBuf),
    /// `redis://` or `rediss://`, with user and password where needed.
    Redis(String),
}

/// The text is not a store's URL. It does not show the text, which may hold a password.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}; expected sqlite:PATH, redis://HOST:PORT or rediss://HOST:PORT")]
pub struct MalformedStoreUrl(&'static str);

impl FromStr for StoreUrl {
    type Err = MalformedStoreUrl;

    fn from_str(text: &str) -> Result<StoreUrl, MalformedStoreUrl> {
        let text = text.trim();
        if let Some(path) = text.strip_prefix("sqlite:") {
            return match path {
                "" => Err(MalformedStoreUrl("has no path")),
                // `sqlite://data` could mean `data` or `/data`: better to ask than to make keys in the wrong place.
                _ if path.starts_with("//") => {
                    Err(MalformedStoreUrl("has slashes after `sqlite:`, which takes a plain path"))
                }
                _ => Ok(StoreUrl::Sqlite(PathBuf::from(path))),
            };
        }
        let url = Url::parse(text).map_err(|_| MalformedStoreUrl("is not a URL"))?;
        if !matches!(url.scheme(), "redis" | "rediss") {
            return Err(MalformedStoreUrl("is of a kind that is not supported"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(MalformedStoreUrl("has no host"));
        }
        // The client library takes `#insecure` as leave not to check the certificate.
        if url.fragment().is_some() {
            return Err(MalformedStoreUrl("has a part behind `#`"));
        }
        let database = url.path().trim_start_matches('/');
        if !database.is_empty() && database.parse::<u16>().is_err() {
            return Err(MalformedStoreUrl("has a path that is not the number of a database"));
        }
        Ok(StoreUrl::Redis(text.to_owned()))
    }
}

/// Never shows a password.
impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Never shows a password.
impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreUrl::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            StoreUrl::Redis(text) => match Url::parse(text) {
                Ok(url) => write!(
                    f,
                    "{}://{}:{}",
                    url.scheme(),
                    url.host_str().unwrap_or_default(),
                    url.port().unwrap_or(6379)
                ),
                Err(_) => f.write_str("redis://"),
            },
        }
    }
}

/// An upstream's origin: scheme, host and port, no path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamUrl {
    /// Whether to speak TLS.
    pub tls: bool,
    /// Name or address, lowercase; an IPv6 address is without its brackets.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
}

/// The text is not an upstream's origin. It does not show the text, which may hold a password.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}; expected http://HOST:PORT or https://HOST:PORT, without a path")]
pub struct MalformedUpstreamUrl(&'static str);

impl FromStr for UpstreamUrl {
    type Err = MalformedUpstreamUrl;

    fn from_str(text: &str) -> Result<UpstreamUrl, MalformedUpstreamUrl> {
        let url = Url::parse(text.trim()).map_err(|_| MalformedUpstreamUrl("is not a URL"))?;
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(MalformedUpstreamUrl("is neither http nor https")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(MalformedUpstreamUrl("has a user or a password"));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(MalformedUpstreamUrl("has a path, a query or a fragment"));
        }
        let host = url.host_str().ok_or(MalformedUpstreamUrl("has no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        match url.port_or_known_default() {
            None | Some(0) => Err(MalformedUpstreamUrl("has no port that can be reached")),
            Some(port) => Ok(UpstreamUrl { tls, host, port }),
        }
    }
}

impl UpstreamUrl {
    /// The value of `Host` for this origin.
    pub fn authority(&self) -> String {
        let default = if self.tls { 443 } else { 80 };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == default { host } else { format!("{host}:{}", self.port) }
    }

    /// Whether both are the same host and port, as far as spelling tells, whatever their schemes.
    pub(super) fn is_same_place(&self, other: &UpstreamUrl) -> bool {
        self.port == other.port && self.place() == other.place()
    }

    /// Whether a listener at `address` would be this upstream.
    pub(super) fn is_at(&self, address: SocketAddr) -> bool {
        let is_here = |ip: IpAddr| ip == address.ip() || (address.ip().is_unspecified() && ip.is_loopback());
        self.port == address.port() && self.place().parse().is_ok_and(is_here)
    }

    /// The host in the one spelling by which hosts are compared.
    fn place(&self) -> String {
        let host = self.host.trim_end_matches('.');
        let is_loopback = host == "localhost"
            || host.ends_with(".localhost")
            || host.parse::<IpAddr>().is_ok_and(|ip| {
                ip.is_unspecified() || ip == Ipv4Addr::LOCALHOST || ip == std::net::Ipv6Addr::LOCALHOST
            });
        if is_loopback { Ipv4Addr::LOCALHOST.to_string() } else { host.to_owned() }
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(text: &str) -> UpstreamUrl {
        text.parse().unwrap()
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for (text, authority) in [
            ("http://Payments.Internal", "payments.internal"),
            ("https://payments.internal:443/", "payments.internal"),
            ("http://127.0.0.1:9000", "127.0.0.1:9000"),
            ("https://[2001:db8::1]:8443", "[2001:db8::1]:8443"),
        ] {
            assert_eq!(upstream(text).authority(), authority);
            assert_eq!(upstream(&upstream(text).to_string()), upstream(text));
        }
        assert_eq!(upstream("http://[::1]:80").host, "::1");
    }

    #[test]
    fn anything_more_is_refused_and_not_repeated() {
        for text in [
            "",
            "payments.internal",
            "payments.internal:80",
            "ftp://payments.internal",
            "http://payments.internal/v1",
            "http://payments.internal?hunter2",
            "http://payments.internal#hunter2",
            "http://user:hunter2@payments.internal",
            "http://:80",
            "http://payments.internal:0",
        ] {
            let error = text.parse::<UpstreamUrl>().unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn one_place_has_many_spellings() {
        for (left, right) in [
            ("http://a.example", "http://A.example:80/"),
            ("http://a.example:443", "https://a.example"),
            ("http://a.example.", "http://a.example"),
            ("http://localhost:9000", "http://127.0.0.1:9000"),
            ("http://[::1]:9000", "http://127.0.0.1:9000"),
        ] {
            assert!(upstream(left).is_same_place(&upstream(right)), "{left} {right}");
        }
        assert!(!upstream("http://a.example:1").is_same_place(&upstream("http://a.example:2")));
    }

    #[test]
    fn a_store_is_sqlite_or_redis() {
        for text in ["sqlite:keys.sqlite", "sqlite:/var/lib/keys", "redis://r", "rediss://u:p@r:6380/3"] {
            assert!(text.parse::<StoreUrl>().is_ok(), "{text}");
        }
        for text in [
            "",
            "keys.sqlite",
            "sqlite:",
            "sqlite://keys",
            "redis:",
            "redis://",
            "rediss://r#insecure",
            "redis://r/keys",
            "mysql://r",
        ] {
            assert!(text.parse::<StoreUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_store_never_shows_its_password() {
        let url: StoreUrl = "rediss://user:hunter2@redis.internal:6380/1".parse().unwrap();
        assert_eq!(url.to_string(), "rediss://redis.internal:6380");
        assert_eq!(format!("{url:?}"), "rediss://redis.internal:6380");
    }
}
