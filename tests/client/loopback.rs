/// A server for one account, on a loopback port, to try a client with: `juliet@example.org`,
/// password `pencil`, no TLS. It answers every request with an empty result, and sends every
/// message back to whom it came from. Gives the port.
pub fn serve() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || converse(stream.unwrap()));
        }
    });
    port
}

fn converse(mut stream: std::net::TcpStream) {
    use std::io::{Read, Write};
    use stonechat::stanza::{Kind, Stanza};
    use stonechat::stream::{Ask, Error, Receiving, Registration, Secret, Security, Settings, sasl};
    use stonechat::xml::{self, Caps, Flow, Reader, Scan, Scope, Writer};

    let keys = sasl::keys(&Secret::new("pencil"), [[1; 16], [2; 16]], 4096);
    let settings = Settings {
        domain: "example.org".into(),
        aliases: Vec::new(),
        registration: Registration::Closed,
        extra_features: Vec::new(),
        early_features: Vec::new(),
        max_bytes_early: 10_000,
        max_bytes: 262_144,
        idle_seconds: 600,
        login_tries: 3,
        secret: [7; 32],
        iterations: 4096,
    };
    let security = Security::Plain { starttls: false, required: false };
    let mut half = Receiving::new(settings.into(), security, [5; 32]);
    let (mut reader, mut scan) = (Reader::new(10_000, 64), Scan::new());
    let mut bound: Option<String> = None;
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer).unwrap_or(0);
        let mut bytes = buffer[..n].to_vec();
        if n == 0 {
            return;
        }
        loop {
            let (mut out, mut more) = (Vec::new(), false);
            let fed = reader.feed(&bytes, |kind, frame| {
                more = true;
                if let (Some(jid), xml::Kind::Element) = (&bound, kind) {
                    let text = scan.element(frame, &Scope::default(), &Caps::default())?;
                    let Some(stanza) = Stanza::new(text, &scan) else { return Ok(Flow::Stop) };
                    match stanza.kind() {
                        Kind::Message => stanza.stamp(&mut out, Some(jid), Some(jid), None, &[]),
                        Kind::Iq => {
                            let mut w = Writer::new(&mut out);
                            w.start("iq").attr("type", "result").opt("id", stanza.id().as_deref());
                            w.opt("from", stanza.to().as_deref()).attr("to", jid);
                        }
                        Kind::Presence => {}
                    }
                    return Ok(Flow::Stop);
                }
                let mut ask = half.frame(kind, frame, &mut scan, &mut out)?;
                while let Some(question) = ask {
                    ask = match question {
                        Ask::Keys { localpart } => {
                            half.keys((&*localpart == "juliet").then_some((1, &keys)), &mut out)?
                        }
                        Ask::Bind { account, resource } => {
                            let jid = account.jid().with_resource(&resource).unwrap();
                            half.bound(&jid, &mut out);
                            bound = Some(jid.to_string());
                            None
                        }
                        _ => None,
                    };
                }
                Ok::<_, Error>(Flow::Stop)
            });
            if let Err(error) = fed {
                half.fail(&error, &mut out);
            }
            if half.restarts() {
                reader.restart();
                reader.set_max_bytes(262_144);
            }
            if stream.write_all(&out).is_err() {
                return;
            }
            bytes.clear();
            if !more {
                break;
            }
        }
    }
}
