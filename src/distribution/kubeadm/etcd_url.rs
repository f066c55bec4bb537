//! The URLs of etcd's flags: who is served there, and whether by TLS.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One URL, read as etcd reads it (etcd v3.6 client/pkg/types/urls.go: `NewURLs`;
/// server/embed/config.go: `checkBindURLs`): `http` or `https` with host and port, or the path of a
/// socket after `unix` or `unixs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdUrl {
    /// Whether TLS is spoken: `https` and `unixs`.
    pub secure: bool,
    /// Where.
    pub host: UrlHost,
    /// 0 for a socket.
    pub port: u16,
}

/// What stands for the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UrlHost {
    /// An IP address; one of IPv4 that is written as IPv6 is the former.
    Address(IpAddr),
    /// A name.
    Name(String),
    /// None: a socket in the file system.
    Socket,
}

impl EtcdUrl {
    /// Reads one; `None` where anything but scheme, host and port is in it. So a name before an `@`
    /// hides no address.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once("://")?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            scheme @ ("unix" | "unixs") => {
                return Some(EtcdUrl {
                    secure: scheme == "unixs",
                    host: UrlHost::Socket,
                    port: 0,
                });
            }
            _ => return None,
        };
        let (host, port) = rest.rsplit_once(':')?;
        if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let address: Ipv6Addr = rest.strip_suffix(']')?.parse().ok()?;
                UrlHost::Address(IpAddr::V6(address).to_canonical())
            }
            None => match host.parse::<Ipv4Addr>() {
                Ok(address) => UrlHost::Address(address.into()),
                Err(_) => {
                    let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
                    if host.is_empty() || !host.bytes().all(letter) {
                        return None;
                    }
                    UrlHost::Name(host.to_ascii_lowercase())
                }
            },
        };
        let port = port.parse().ok()?;
        Some(EtcdUrl { secure, host, port })
    }

    /// Whether only programs of the node itself reach it. etcd takes `localhost` and no other name.
    pub fn is_local(&self) -> bool {
        match &self.host {
            UrlHost::Address(address) => address.is_loopback(),
            UrlHost::Name(name) => name == "localhost",
            UrlHost::Socket => true,
        }
    }

    /// Whether it stands for every address that the node has.
    pub fn is_everywhere(&self) -> bool {
        matches!(&self.host, UrlHost::Address(address) if address.is_unspecified())
    }

    /// Whether it stands for this address.
    pub fn is_at(&self, own: IpAddr) -> bool {
        matches!(&self.host, UrlHost::Address(address) if *address == own.to_canonical())
    }

    /// Whether a listener here answers who asks there.
    pub fn answers(&self, asked: &EtcdUrl) -> bool {
        self.secure == asked.secure
            && self.port == asked.port
            && (self.host == asked.host
                || self.is_everywhere()
                || (self.is_local() && asked.is_local()))
    }

    /// Writes it with another address.
    pub fn at(&self, address: IpAddr) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!(
            "{scheme}://{}",
            core::net::SocketAddr::new(address, self.port)
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn url(text: &str) -> EtcdUrl {
        EtcdUrl::parse(text).unwrap_or_else(|| panic!("{text} is understood"))
    }

    #[test]
    fn scheme_host_and_port_are_read() {
        for (text, secure, local, everywhere, port) in [
            ("https://127.0.0.1:2379", true, true, false, 2379),
            (" HTTP://127.8.0.1:1 ", false, true, false, 1),
            ("https://localhost:2379", true, true, false, 2379),
            ("https://[::1]:2379", true, true, false, 2379),
            ("https://[::ffff:127.0.0.1]:2379", true, true, false, 2379),
            ("http://0.0.0.0:2379", false, false, true, 2379),
            ("https://[::]:2379", true, false, true, 2379),
            ("https://10.0.0.1:2379", true, false, false, 2379),
            ("https://etcd.example:2379", true, false, false, 2379),
            ("unix:///run/etcd.sock", false, true, false, 0),
            ("unixs://etcd.sock:1", true, true, false, 0),
        ] {
            let read = url(text);
            let found = (
                read.secure,
                read.is_local(),
                read.is_everywhere(),
                read.port,
            );
            assert_eq!(found, (secure, local, everywhere, port), "{text}");
        }
    }

    #[test]
    fn what_hides_an_address_is_not_understood() {
        for text in [
            "",
            "127.0.0.1:2379",
            "https://127.0.0.1",
            "https://127.0.0.1:",
            "https://127.0.0.1:+1",
            "https://127.0.0.1:99999",
            "https://:2379",
            "https://127.0.0.1@0.0.0.0:2379",
            "https://127.0.0.1:2379/path",
            "https://127.0.0.1:2379?x=0.0.0.0:1",
            "https://::1:2379",
            "https://[fe80::1%25eth0]:2379",
            "https://[127.0.0.1]:2379",
            "ftp://127.0.0.1:2379",
            "https:127.0.0.1:2379",
        ] {
            assert_eq!(EtcdUrl::parse(text), None, "{text}");
        }
    }

    #[test]
    fn who_asks_is_answered_at_the_same_address_or_at_all_of_them() {
        for (listener, asked, answers) in [
            ("https://127.0.0.1:1", "https://127.0.0.1:1", true),
            ("https://localhost:1", "https://127.0.0.1:1", true),
            ("https://0.0.0.0:1", "https://10.0.0.1:1", true),
            ("https://10.0.0.1:1", "https://127.0.0.1:1", false),
            ("https://127.0.0.1:1", "http://127.0.0.1:1", false),
            ("https://127.0.0.1:1", "https://127.0.0.1:2", false),
        ] {
            assert_eq!(
                url(listener).answers(&url(asked)),
                answers,
                "{listener} {asked}"
            );
        }
    }

    #[test]
    fn it_is_written_with_another_address() {
        let own = "fd00::11".parse().unwrap();
        assert_eq!(url("https://[::]:2379").at(own), "https://[fd00::11]:2379");
        assert!(url("https://[FD00:0::11]:1").is_at(own));
        assert!(!url("https://[fd00::12]:1").is_at(own));
        let own = "10.0.0.1".parse().unwrap();
        assert_eq!(url("http://0.0.0.0:1").at(own), "http://10.0.0.1:1");
        assert!(url("http://[::ffff:10.0.0.1]:1").is_at(own));
    }
}
