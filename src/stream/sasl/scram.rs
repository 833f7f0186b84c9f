//! SCRAM (RFC 5802, RFC 7677), server and client half in one file: what one writes, the other reads.
//!
//! ```text
//! client-first   gs2-header n=user,r=cnonce            ── <auth/>
//! server-first   r=cnonce+snonce,s=salt,i=iterations   ── <challenge/>
//! client-final   c=base64(gs2-header cb-data),r=…,p=…  ── <response/>
//! server-final   v=signature                           ── <success/>
//! ```
//!
//! Each message is made by a state that the one before it became, so they cannot come in another
//! order.

use super::super::secret::Verifier;
use super::{Authenticated, BindingType, Condition, Hash, MAX_ITERATIONS, MIN_ITERATIONS, check_authzid};
use crate::jid::BareJid;
use crate::store::change::ScramKeys;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A nonce longer than this is not a nonce.
const MAX_NONCE: usize = 512;

/// What the client says about channel binding (RFC 5802 §6, `gs2-cbind-flag`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flag {
    /// `n`: the client does not do channel binding.
    Unsupported,
    /// `y`: the client does, and thinks that the server does not.
    NotOffered,
    /// `p=type`: bound to the channel in that way, if we know it.
    Bound(Option<BindingType>),
}

/// client-first-message, taken apart (RFC 5802 §7).
#[derive(Debug)]
pub struct ClientFirst {
    /// Channel binding.
    pub flag: Flag,
    /// The authorization identity.
    pub authzid: Option<String>,
    /// The user name, decoded but not prepared.
    pub username: String,
    header: String,
    bare: String,
    nonce: String,
}

impl ClientFirst {
    /// Reads the message. A mandatory extension (`m=`) is refused, as we know none.
    pub fn read(data: &[u8]) -> Result<ClientFirst, Condition> {
        let text = std::str::from_utf8(data).map_err(|_| Condition::MalformedRequest)?;
        ClientFirst::parse(text).ok_or(Condition::MalformedRequest)
    }

    fn parse(text: &str) -> Option<ClientFirst> {
        let (flag, rest) = text.split_once(',')?;
        let flag = match flag {
            "n" => Flag::Unsupported,
            "y" => Flag::NotOffered,
            _ => Flag::Bound(BindingType::named(flag.strip_prefix("p=").filter(|t| is_binding_name(t))?)),
        };
        let (authzid, bare) = rest.split_once(',')?;
        let authzid = match authzid {
            "" => None,
            _ => Some(saslname(authzid.strip_prefix("a=")?)?),
        };
        let header = text.get(..text.len().checked_sub(bare.len())?)?;
        // `m=` would stand before the user name
        let mut fields = bare.split(',');
        let username = saslname(fields.next()?.strip_prefix("n=")?)?;
        let nonce = fields.next()?.strip_prefix("r=").filter(|n| is_nonce(n))?;
        if !fields.all(is_extension) {
            return None;
        }
        let [header, bare, nonce] = [header, bare, nonce].map(str::to_owned);
        Some(ClientFirst { flag, authzid, username, header, bare, nonce })
    }
}

/// Server: the challenge is out, client-final is next.
pub struct Server {
    hash: Hash,
    account: BareJid,
    known: bool,
    /// What `c=` must decode to.
    binding: Verifier,
    nonce: String,
    /// client-first-message-bare "," server-first-message ","
    transcript: String,
    keys: ScramKeys,
}

impl Server {
    /// Checks what can be checked without the keys: the flag against what was offered on this
    /// stream, and the authorization identity (threats B3, B5). Gives the account.
    ///
    /// `plus` is whether the chosen mechanism is a `-PLUS`, `offered` whether any was offered.
    pub fn account(
        first: &ClientFirst,
        plus: bool,
        offered: bool,
        domain: &str,
    ) -> Result<BareJid, Condition> {
        match (first.flag, plus) {
            (Flag::Bound(_), true) | (Flag::Unsupported, false) => {}
            // Somebody has cut the -PLUS mechanisms out of our features (RFC 5802 §6)
            (Flag::NotOffered, false) if offered => return Err(Condition::NotAuthorized),
            (Flag::NotOffered, false) => {}
            (Flag::Bound(_), false) | (_, true) => return Err(Condition::MalformedRequest),
        }
        if first.username.is_empty() {
            return Err(Condition::MalformedRequest);
        }
        // A name that no account can have is answered like a wrong password (threats B8)
        let account =
            BareJid::from_parts(Some(&first.username), domain).map_err(|_| Condition::NotAuthorized)?;
        check_authzid(first.authzid.as_deref(), &account)?;
        Ok(account)
    }

    /// Writes server-first-message. `binding` is the data of the type that the client has named
    /// (nothing if it named none), `known` whether the account exists: if not, the keys are decoys
    /// and the exchange goes on to fail where a wrong password would (threats B8).
    pub fn challenge(
        first: &ClientFirst,
        hash: Hash,
        account: BareJid,
        (keys, known): (ScramKeys, bool),
        binding: &[u8],
        nonce: &str,
    ) -> (Server, String) {
        let nonce = [&first.nonce, nonce].concat();
        let message = format!("r={nonce},s={},i={}", STANDARD.encode(&keys.salt), keys.iterations);
        let transcript = [&first.bare, ",", &message, ","].concat();
        let binding = Verifier::new([first.header.as_bytes(), binding].concat());
        (Server { hash, account, known, binding, nonce, transcript, keys }, message)
    }

    /// Checks client-final-message; gives the proof of who it was, and server-final-message.
    pub fn verify(self, data: &[u8]) -> Result<(Authenticated, String), Condition> {
        let text = std::str::from_utf8(data).map_err(|_| Condition::MalformedRequest)?;
        let (binding, nonce, proof) = client_final(text).ok_or(Condition::MalformedRequest)?;
        let without_proof = text.rsplit_once(",p=").map_or("", |(before, _)| before);
        let message = [&self.transcript, without_proof].concat();
        let signature = self.hash.hmac(&self.keys.stored_key, message.as_bytes());
        let client_key = xor(&proof, signature.as_ref());
        let stored_key = Verifier::new(&*self.keys.stored_key);
        // All is computed before anything is decided, so that the time tells nothing.
        let proven = stored_key.accepts(self.hash.digest(&client_key).as_ref())
            & (proof.len() == self.hash.size())
            & self.binding.accepts(&binding)
            & (nonce == self.nonce)
            & self.known;
        let server = self.hash.hmac(&self.keys.server_key, message.as_bytes());
        if !proven {
            return Err(Condition::NotAuthorized);
        }
        Ok((Authenticated(self.account), format!("v={}", STANDARD.encode(server))))
    }
}

/// `c=…,r=…[,extensions],p=…`: the first, the second and the last.
fn client_final(text: &str) -> Option<(Vec<u8>, &str, Vec<u8>)> {
    let (before, proof) = text.rsplit_once(",p=")?;
    let proof = STANDARD.decode(proof).ok()?;
    let mut fields = before.split(',');
    let binding = STANDARD.decode(fields.next()?.strip_prefix("c=")?).ok()?;
    let nonce = fields.next()?.strip_prefix("r=")?;
    fields.all(is_extension).then_some((binding, nonce, proof))
}

/// Why a client breaks the exchange off: each is the server's doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The message is not what RFC 5802 §7 says, or carries an extension that we must know.
    Malformed,
    /// The nonce does not begin with ours: the answer is to another question.
    Nonce,
    /// Outside [`MIN_ITERATIONS`]..=[`MAX_ITERATIONS`] (threats B7).
    Iterations(u32),
    /// The server does not know the password's keys: it is not the server.
    Signature,
}

/// Client: client-first is out, server-first is next.
pub struct Client {
    hash: Hash,
    /// gs2-header and channel binding data
    binding: Vec<u8>,
    bare: String,
    nonce: String,
}

/// Client: waits for [`super::derive`].
pub struct Salted {
    /// For [`super::derive`].
    pub hash: Hash,
    without_proof: String,
    /// AuthMessage (RFC 5802 §3)
    message: String,
    /// For [`super::derive`].
    pub salt: Vec<u8>,
    /// For [`super::derive`].
    pub iterations: u32,
}

/// Client: client-final is out, server-final is next.
pub struct Expect(Verifier);

/// What the client says about channel binding, with the data where there is any.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bind<'a> {
    /// `n`
    Unsupported,
    /// `y`
    NotOffered,
    /// `p=`
    To(BindingType, &'a [u8]),
}

impl Client {
    /// Makes client-first-message. The nonce is fresh.
    pub fn new(hash: Hash, localpart: &str, bind: Bind<'_>, nonce: &str) -> (Client, String) {
        let (header, data) = match bind {
            Bind::Unsupported => ("n,,".to_owned(), &b""[..]),
            Bind::NotOffered => ("y,,".to_owned(), &b""[..]),
            Bind::To(kind, data) => (format!("p={},,", kind.name()), data),
        };
        let name = localpart.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={name},r={nonce}");
        let message = [&*header, &bare].concat();
        let binding = [header.as_bytes(), data].concat();
        (Client { hash, binding, bare, nonce: nonce.to_owned() }, message)
    }

    /// Reads server-first-message. No work is done before the iteration count is found sane.
    pub fn challenged(self, data: &[u8]) -> Result<Salted, Fault> {
        let text = std::str::from_utf8(data).map_err(|_| Fault::Malformed)?;
        let (nonce, salt, iterations) = server_first(text).ok_or(Fault::Malformed)?;
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err(Fault::Nonce);
        }
        if !(MIN_ITERATIONS..=MAX_ITERATIONS).contains(&iterations) {
            return Err(Fault::Iterations(iterations));
        }
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(&self.binding));
        let message = [&self.bare, ",", text, ",", &without_proof].concat();
        Ok(Salted { hash: self.hash, without_proof, message, salt, iterations })
    }
}

/// `r=…,s=…,i=…[,extensions]`
fn server_first(text: &str) -> Option<(&str, Vec<u8>, u32)> {
    let mut fields = text.split(',');
    let nonce = fields.next()?.strip_prefix("r=").filter(|n| is_nonce(n))?;
    let salt = STANDARD.decode(fields.next()?.strip_prefix("s=")?).ok()?;
    let digits = fields.next()?.strip_prefix("i=")?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // a count too big for the type is too big for us as well
    let iterations = digits.parse().unwrap_or(u32::MAX);
    (!salt.is_empty() && fields.all(is_extension)).then_some((nonce, salt, iterations))
}

impl Salted {
    /// Makes client-final-message of what [`super::derive`] has made of the password.
    pub fn finish(self, salted: &[u8]) -> (Expect, String) {
        let hash = self.hash;
        let client_key = hash.hmac(salted, b"Client Key");
        let stored_key = hash.digest(client_key.as_ref());
        let signature = hash.hmac(stored_key.as_ref(), self.message.as_bytes());
        let proof = xor(client_key.as_ref(), signature.as_ref());
        let server_key = hash.hmac(salted, b"Server Key");
        let expected = hash.hmac(server_key.as_ref(), self.message.as_bytes());
        let message = format!("{},p={}", self.without_proof, STANDARD.encode(proof));
        (Expect(Verifier::new(expected.as_ref())), message)
    }
}

impl Expect {
    /// Reads server-final-message.
    pub fn check(&self, data: &[u8]) -> Result<(), Fault> {
        let text = std::str::from_utf8(data).map_err(|_| Fault::Signature)?;
        let signature = text.split(',').next().and_then(|f| f.strip_prefix("v="));
        match signature.map(|v| STANDARD.decode(v)) {
            Some(Ok(signature)) if self.0.accepts(&signature) => Ok(()),
            _ => Err(Fault::Signature),
        }
    }
}

fn xor(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b).map(|(a, b)| a ^ b).collect()
}

/// `saslname`: `,` is written `=2C` and `=` is written `=3D`; no other `=` may stand in it.
fn saslname(text: &str) -> Option<String> {
    let mut parts = text.split('=');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        if let Some(rest) = part.strip_prefix("2C") {
            name.push(',');
            name.push_str(rest);
        } else {
            name.push('=');
            name.push_str(part.strip_prefix("3D")?);
        }
    }
    (!name.contains('\0')).then_some(name)
}

/// `r`: printable ASCII except `,`.
fn is_nonce(text: &str) -> bool {
    (1..=MAX_NONCE).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && b != b',')
}

/// `cb-name`
fn is_binding_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
}

/// An optional extension: `attr-val`, but not `m=`, which asks to be understood.
fn is_extension(field: &str) -> bool {
    let mut bytes = field.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() && b != b'm')
        && bytes.next() == Some(b'=')
        && bytes.next().is_some_and(|b| b != 0)
}

#[cfg(test)]
mod tests {
    use super::super::super::secret::Secret;
    use super::super::{derive, keys};
    use super::*;

    struct Vector {
        hash: Hash,
        client_nonce: &'static str,
        server_nonce: &'static str,
        salt: &'static str,
        server_first: &'static str,
        client_final: &'static str,
        server_final: &'static str,
    }

    const RFC5802_S5: Vector = Vector {
        hash: Hash::Sha1,
        client_nonce: "fyko+d2lbbFgONRv9qkxdawL",
        server_nonce: "3rfcNHYJY1ZVvWVs7j",
        salt: "QSXCR+Q6sek8bf92",
        server_first: "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        client_final: "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        server_final: "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    };

    const RFC7677_S3: Vector = Vector {
        hash: Hash::Sha256,
        client_nonce: "rOprNGfwEbeRWgbNEkqO",
        server_nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        salt: "W22ZaJ0SNY7soEsUEjb6gQ==",
        server_first: "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        client_final: "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        server_final: "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    };

    fn pencil_keys(v: &Vector) -> ScramKeys {
        let salt = STANDARD.decode(v.salt).unwrap();
        let salted = derive(&Secret::new("pencil"), &salt, 4096, v.hash);
        ScramKeys {
            salt: salt.into(),
            iterations: 4096,
            stored_key: v.hash.digest(v.hash.hmac(&salted, b"Client Key").as_ref()).as_ref().into(),
            server_key: v.hash.hmac(&salted, b"Server Key").as_ref().into(),
        }
    }

    fn both_halves(v: &Vector) {
        let (client, first) = Client::new(v.hash, "user", Bind::Unsupported, v.client_nonce);
        assert_eq!(first, format!("n,,n=user,r={}", v.client_nonce));
        let read = ClientFirst::read(first.as_bytes()).unwrap();
        let jid = Server::account(&read, false, false, "a.test").unwrap();
        let (server, challenge) =
            Server::challenge(&read, v.hash, jid, (pencil_keys(v), true), b"", v.server_nonce);
        assert_eq!(challenge, v.server_first);
        let salted = client.challenged(challenge.as_bytes()).unwrap();
        let password = derive(&Secret::new("pencil"), &salted.salt, salted.iterations, v.hash);
        let (expect, response) = salted.finish(&password);
        assert_eq!(response, v.client_final);
        let (who, success) = server.verify(response.as_bytes()).unwrap();
        assert_eq!(success, v.server_final);
        assert_eq!(who.jid().as_str(), "user@a.test");
        assert_eq!(expect.check(success.as_bytes()), Ok(()));
        assert_eq!(expect.check(b"v=AAAA"), Err(Fault::Signature));
        assert_eq!(expect.check(b"e=other-error"), Err(Fault::Signature));
        assert_eq!(expect.check(b""), Err(Fault::Signature));
    }

    #[test]
    fn rfc5802_s5() {
        both_halves(&RFC5802_S5);
    }

    #[test]
    fn rfc7677_s3() {
        both_halves(&RFC7677_S3);
    }

    /// The server's half of the RFC 7677 exchange, with another client-final.
    fn answer(client_final: &str) -> Result<(), Condition> {
        let v = &RFC7677_S3;
        let first = format!("n,,n=user,r={}", v.client_nonce);
        let read = ClientFirst::read(first.as_bytes()).unwrap();
        let jid = Server::account(&read, false, false, "a.test").unwrap();
        let (server, _) = Server::challenge(&read, v.hash, jid, (pencil_keys(v), true), b"", v.server_nonce);
        server.verify(client_final.as_bytes()).map(|_| ())
    }

    #[test]
    fn b6_wrong_nonce_binding_or_proof() {
        let good = RFC7677_S3.client_final;
        assert_eq!(answer(good), Ok(()));
        let refused = Err(Condition::NotAuthorized);
        assert_eq!(answer(&good.replace("$k0", "$k1")), refused);
        assert_eq!(answer(&good.replace("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", "")), refused);
        assert_eq!(answer(&good.replace("biws", "eSws")), refused);
        assert_eq!(answer(&good.replace("p=dHzb", "p=dHzc")), refused);
        assert_eq!(answer(&good.replace("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "dHzb")), refused);
        let malformed = Err(Condition::MalformedRequest);
        for bad in [
            "",
            "c=biws",
            "c=biws,r=x",
            "c=biws,p=AAAA",
            "r=x,c=biws,p=AAAA",
            "c=biws,r=x,m=y,p=AAAA",
            "c=biws,r=x,p=AA*A",
            "c=biws,r=x,p=AAAA,x=y",
        ] {
            assert_eq!(answer(bad), malformed, "{bad}");
        }
    }

    #[test]
    fn rfc5802_s7_client_first() {
        let read = |text: &str| ClientFirst::parse(text).map(|f| (f.username.clone(), f.authzid.clone()));
        let user = |name: &str| Some((name.to_owned(), None));
        assert_eq!(read("n,,n=user,r=x"), user("user"));
        assert_eq!(read("y,,n=u=2Cs=3Der,r=x,k=v"), user("u,s=er"));
        assert_eq!(read("p=tls-exporter,a=b=2C,n=u,r=x"), Some(("u".to_owned(), Some("b,".to_owned()))));
        for bad in [
            "",
            "n",
            "n,",
            "n,,",
            "n,,n=u",
            "n,,r=x,n=u",
            "x,,n=u,r=x",
            "p=,,n=u,r=x",
            "p=a b,,n=u,r=x",
            "n,b,n=u,r=x",
            "n,,m=ext,n=u,r=x",
            "n,,n=u,r=x,m=ext",
            "n,,n=u=2c,r=x",
            "n,,n=u=,r=x",
            "n,,n=u=41,r=x",
            "n,,n=u,r=",
            "n,,n=u,r=a b",
            "n,,n=u,r=\u{fc}",
            "n,,n=u,r=x,",
            "n,,n=u,r=x,k",
            "n,,n=u\0,r=x",
        ] {
            assert!(ClientFirst::parse(bad).is_none(), "{bad}");
        }
        assert!(ClientFirst::parse(&format!("n,,n=u,r={}", "x".repeat(513))).is_none());
    }

    #[test]
    fn rfc5802_s6_binding_flags() {
        let account = |text: &str, plus, offered| {
            let first = ClientFirst::read(text.as_bytes()).unwrap();
            Server::account(&first, plus, offered, "a.test").map(|_| ())
        };
        assert_eq!(account("n,,n=u,r=x", false, true), Ok(()));
        assert_eq!(account("y,,n=u,r=x", false, false), Ok(()));
        assert_eq!(account("p=tls-exporter,,n=u,r=x", true, true), Ok(()));
        assert_eq!(account("y,,n=u,r=x", false, true), Err(Condition::NotAuthorized));
        for (text, plus) in [("y,,n=u,r=x", true), ("n,,n=u,r=x", true), ("p=tls-exporter,,n=u,r=x", false)] {
            assert_eq!(account(text, plus, true), Err(Condition::MalformedRequest), "{text}");
        }
        assert_eq!(account("n,a=bob,n=alice,r=x", false, true), Err(Condition::InvalidAuthzid));
        assert_eq!(account("n,a=alice@other,n=alice,r=x", false, true), Err(Condition::InvalidAuthzid));
        assert_eq!(account("n,a=alice@a.test,n=alice,r=x", false, true), Ok(()));
        assert_eq!(account("n,,n=,r=x", false, true), Err(Condition::MalformedRequest));
        assert_eq!(account("n,,n=a b,r=x", false, true), Err(Condition::NotAuthorized));
    }

    #[test]
    fn b7_iterations_are_judged_before_any_work() {
        let challenged = |first: &str| {
            let (client, _) = Client::new(Hash::Sha256, "u", Bind::Unsupported, "abc");
            client.challenged(first.as_bytes()).map(|s| s.iterations)
        };
        assert_eq!(challenged("r=abcd,s=AAAA,i=4096"), Ok(4096));
        assert_eq!(challenged("r=abcd,s=AAAA,i=500000"), Ok(500_000));
        assert_eq!(challenged("r=abcd,s=AAAA,i=4095"), Err(Fault::Iterations(4095)));
        assert_eq!(challenged("r=abcd,s=AAAA,i=500001"), Err(Fault::Iterations(500_001)));
        assert_eq!(challenged("r=abcd,s=AAAA,i=2147483647"), Err(Fault::Iterations(2_147_483_647)));
        assert_eq!(challenged("r=abcd,s=AAAA,i=99999999999999999999"), Err(Fault::Iterations(u32::MAX)));
        assert_eq!(challenged("r=abc,s=AAAA,i=4096"), Err(Fault::Nonce));
        assert_eq!(challenged("r=xbcd,s=AAAA,i=4096"), Err(Fault::Nonce));
        for bad in [
            "",
            "r=abcd",
            "m=x,r=abcd,s=AAAA,i=4096",
            "r=abcd,s=,i=4096",
            "r=abcd,s=AAAA,i=",
            "r=abcd,s=AAAA,i=+4096",
            "r=abcd,s=AAAA,i=4096,m=x",
            "r=abcd,s=A,i=4096",
        ] {
            assert_eq!(challenged(bad), Err(Fault::Malformed), "{bad}");
        }
    }

    #[test]
    fn b8_an_unknown_account_fails_even_with_the_decoys_password() {
        let v = &RFC5802_S5;
        let first = format!("n,,n=user,r={}", v.client_nonce);
        let read = ClientFirst::read(first.as_bytes()).unwrap();
        let jid = Server::account(&read, false, false, "a.test").unwrap();
        let (server, _) = Server::challenge(&read, v.hash, jid, (pencil_keys(v), false), b"", v.server_nonce);
        assert_eq!(server.verify(v.client_final.as_bytes()).map(|_| ()), Err(Condition::NotAuthorized));
    }

    #[test]
    fn keys_fit_both_hashes() {
        let keys = keys(&Secret::new("pencil"), [[1; 16], [2; 16]], 4096);
        for hash in [Hash::Sha1, Hash::Sha256] {
            let (client, first) = Client::new(hash, "a,b=c", Bind::To(BindingType::Exporter, b"data"), "cn");
            let read = ClientFirst::read(first.as_bytes()).unwrap();
            assert_eq!(read.username, "a,b=c");
            let jid = BareJid::parse("abc@a.test").unwrap();
            let (server, challenge) =
                Server::challenge(&read, hash, jid, (hash.of(&keys).clone(), true), b"data", "sn");
            let salted = client.challenged(challenge.as_bytes()).unwrap();
            let password = derive(&Secret::new("pencil"), &salted.salt, salted.iterations, hash);
            let (expect, response) = salted.finish(&password);
            let (_, success) = server.verify(response.as_bytes()).unwrap();
            assert_eq!(expect.check(success.as_bytes()), Ok(()));
        }
    }
}
