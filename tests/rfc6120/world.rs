//! The world around a receiving half, in memory: it answers every question at once.

use std::rc::Rc;
use std::sync::{Mutex, OnceLock};
use stonechat::jid::BareJid;
use stonechat::store::change::Keys;
use stonechat::stream::sasl::{self, Hash};
use stonechat::stream::{Ask, Bindings, Error, Receiving, Registration, Secret, Security, Settings};
use stonechat::xml::{Flow, Reader, Scan};

/// How the listener is set up.
pub fn settings(registration: Registration) -> Settings {
    Settings {
        domain: "a.test".into(),
        aliases: vec!["b.test".into()],
        registration,
        extra_features: b"<sub xmlns='urn:xmpp:features:pre-approval'/>".to_vec(),
        early_features: Vec::new(),
        max_bytes_early: 10_000,
        max_bytes: 262_144,
        idle_seconds: 600,
        login_tries: 3,
        secret: [7; 32],
        iterations: 4096,
    }
}

/// A plain listener, TLS offered but not required.
pub const PLAIN: Security = Security::Plain { starttls: true, required: false };
/// A listener on which TLS comes first.
pub const REQUIRED: Security = Security::Plain { starttls: true, required: true };

/// What both ends of the TLS connection know.
pub fn bindings() -> Bindings {
    Bindings { exporter: Some([3; 32]), server_end_point: Some(vec![4; 32]) }
}

/// Inside TLS, without a client certificate.
pub fn tls() -> Security {
    Security::Tls { bindings: bindings(), certificate: None }
}

/// Inside TLS, with alice's certificate.
pub fn tls_alice() -> Security {
    Security::Tls { bindings: bindings(), certificate: Some([9; 32]) }
}

/// Account number 1, password "pencil"; number 2 is bob, same password.
pub fn keys() -> Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| sasl::keys(&Secret::new("pencil"), [[1; 16], [2; 16]], 4096)).clone()
}

/// [`sasl::derive`], but the same thing is not worked out twice.
pub fn derive(password: &Secret, salt: &[u8], iterations: u32, sha: Hash) -> Vec<u8> {
    static KNOWN: Mutex<Vec<(Vec<u8>, Vec<u8>)>> = Mutex::new(Vec::new());
    let question = [password.expose(), b"\0", salt, &iterations.to_be_bytes(), &[sha.size() as u8]].concat();
    let mut known = KNOWN.lock().unwrap();
    if let Some((_, salted)) = known.iter().find(|(q, _)| *q == question) {
        return salted.clone();
    }
    let salted = sasl::derive(password, salt, iterations, sha);
    known.push((question, salted.clone()));
    salted
}

/// A receiving half and all that it needs.
pub struct World {
    pub stream: Receiving,
    pub reader: Reader,
    pub scan: Scan,
    pub keys: Keys,
    /// How often it asked for what, by name.
    pub asked: Vec<&'static str>,
    /// Who got a resource.
    pub bound: Option<(BareJid, String)>,
    /// The account's number at that time.
    pub id: Option<u64>,
    /// Why it ended, if it did.
    pub error: Option<Error>,
    pub closed: bool,
    /// The localparts that the throttle was told.
    pub refused: Vec<Option<String>>,
    /// bind() answers with this.
    pub refuse_bind: Option<stonechat::stanza::Error>,
}

impl World {
    pub fn new(security: Security) -> World {
        World::with(settings(Registration::Closed), security)
    }

    pub fn with(settings: Settings, security: Security) -> World {
        World {
            reader: Reader::new(settings.max_bytes_early, 64),
            stream: Receiving::new(Rc::new(settings), security, [5; 32]),
            scan: Scan::new(),
            keys: keys(),
            asked: Vec::new(),
            bound: None,
            id: None,
            error: None,
            closed: false,
            refused: Vec::new(),
            refuse_bind: None,
        }
    }

    /// Feeds bytes and answers questions until nothing is left; gives what was written.
    pub fn feed(&mut self, bytes: impl AsRef<[u8]>) -> String {
        let mut out = Vec::new();
        let mut bytes = bytes.as_ref().to_vec();
        while !self.closed {
            let mut open = None;
            let (stream, scan) = (&mut self.stream, &mut self.scan);
            let mut stopped = false;
            let fed = self.reader.feed(&bytes, |kind, frame| {
                open = stream.frame(kind, frame, scan, &mut out)?;
                stopped = true;
                Ok::<_, Error>(Flow::Stop)
            });
            bytes.clear();
            let mut result = fed.map(|()| open);
            while let Ok(Some(ask)) = result {
                result = self.answer(ask, &mut out);
            }
            if let Err(error) = result {
                self.stream.fail(&error, &mut out);
                self.error = Some(error);
                self.closed = true;
            }
            if self.stream.restarts() {
                self.reader.restart();
            }
            if !stopped {
                break;
            }
        }
        String::from_utf8(out).unwrap()
    }

    fn answer(&mut self, ask: Ask, out: &mut Vec<u8>) -> Result<Option<Ask>, Error> {
        self.asked.push(match &ask {
            Ask::StartTls => "starttls",
            Ask::Keys { .. } => "keys",
            Ask::Derive { .. } => "derive",
            Ask::Owner { .. } => "owner",
            Ask::Register => "register",
            Ask::Refused { .. } => "refused",
            Ask::Bind { .. } => "bind",
            Ask::Resume { .. } => "resume",
            Ask::Closed => "closed",
        });
        match ask {
            Ask::StartTls => {
                if self.reader.is_empty() {
                    self.stream.secured(bindings(), None);
                    self.reader = Reader::new(10_000, 64);
                } else {
                    self.closed = true;
                }
                Ok(None)
            }
            Ask::Keys { localpart } => {
                let keys = self.keys.clone();
                let id = match &*localpart {
                    "alice" => Some(1),
                    "bob" => Some(2),
                    _ => None,
                };
                self.stream.keys(id.map(|id| (id, &keys)), out)
            }
            Ask::Derive { password, salt, iterations, sha } => {
                let salted = derive(&password, &salt, iterations, sha);
                self.stream.derived(&salted, out)
            }
            Ask::Owner { spki, .. } => {
                let owner = (spki == [9; 32]).then_some("alice");
                self.stream.owner(owner, out)
            }
            Ask::Register => {
                out.extend_from_slice(b"<iq type='result' id='reg'/>");
                Ok(None)
            }
            Ask::Refused { localpart } => {
                self.refused.push(localpart.map(|l| l.to_string()));
                Ok(None)
            }
            Ask::Bind { account, resource } => {
                match self.refuse_bind.take() {
                    Some(error) => self.stream.bind_refused(error, out),
                    None => {
                        let jid = account.jid().with_resource(&resource).unwrap();
                        self.id = self.stream.account_id();
                        self.stream.bound(&jid, out);
                        self.bound = Some((account.jid().clone(), resource.to_string()));
                    }
                }
                Ok(None)
            }
            // The stream "alice's" is hers, and has handled as many stanzas as she.
            Ask::Resume { account, previd, h } => {
                match &*previd == "alice's" && account.jid().as_str() == "alice@a.test" {
                    true => self.stream.resumed(h, out),
                    false => self.stream.resume_refused(out),
                }
                Ok(None)
            }
            Ask::Closed => {
                self.closed = true;
                Ok(None)
            }
        }
    }

    /// The condition of the stream error that ended it.
    pub fn condition(&self) -> Option<&'static str> {
        self.error.as_ref().map(|e| e.condition.name())
    }
}

/// A client's header.
pub const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
     xmlns:stream='http://etherx.jabber.org/streams' to='a.test' version='1.0'>";

/// `<auth/>`
pub fn auth(mechanism: &str, data: &[u8]) -> String {
    format!(
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{mechanism}'>{}</auth>",
        sasl::encode(data)
    )
}

/// `<response/>`
pub fn response(data: &[u8]) -> String {
    format!("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{}</response>", sasl::encode(data))
}

pub const ALICE: &[u8] = b"\0alice\0pencil";
pub const BIND: &str = "<iq type='set' id='b1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>desk</resource></bind></iq>";

/// A world in which alice has logged in with PLAIN under TLS, and has not bound yet.
pub fn logged_in() -> World {
    let mut world = World::new(tls());
    world.feed(HEADER);
    let said = world.feed(auth("PLAIN", ALICE));
    assert_eq!(said, "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
    let said = world.feed(HEADER);
    assert!(said.contains("urn:ietf:params:xml:ns:xmpp-bind"), "{said}");
    world
}

/// What stands inside the challenge, decoded.
pub fn challenge_of(said: &str) -> String {
    let inner = said
        .split_once("<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>")
        .and_then(|(_, rest)| rest.split_once("</challenge>"))
        .map(|(inner, _)| inner)
        .unwrap_or_else(|| panic!("no challenge in {said}"));
    String::from_utf8(sasl::decode(inner).unwrap()).unwrap()
}

/// Whether `said` is `<failure/>` of SASL with this condition, and nothing else.
pub fn failure(condition: &str) -> String {
    format!("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><{condition}/></failure>")
}
