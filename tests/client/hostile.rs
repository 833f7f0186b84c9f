//! Servers that mean harm, written out as what they say to what they hear.

use super::options;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use stonechat::client::{Client, Error, Event, Security};

const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' id='1' from='example.org' version='1.0'>";
const SCRAM: &str = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
    <mechanism>SCRAM-SHA-256</mechanism></mechanisms></stream:features>";
const PLAIN: &str = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
    <mechanism>PLAIN</mechanism></mechanisms></stream:features>";

/// A server for any number of connections: each time `reply` has something to say to all that was
/// heard on one so far, it says it. Gives the port, and what was heard on each in the end.
fn server(
    reply: impl Fn(usize, &str) -> Option<String> + Send + Sync + Clone + 'static,
) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (to, heard) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, reply, to) = (stream.unwrap(), reply.clone(), to.clone());
            std::thread::spawn(move || {
                let (mut all, mut step, mut buffer) = (String::new(), 0, [0; 4096]);
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    all.push_str(&String::from_utf8_lossy(&buffer[..n]));
                    while let Some(text) = reply(step, &all) {
                        step += 1;
                        if stream.write_all(text.as_bytes()).is_err() || text.is_empty() {
                            break;
                        }
                    }
                }
                let _ = to.send(all);
            });
        }
    });
    (port, heard)
}

/// Says these one after the other, whatever it hears.
fn says(lines: &'static [&'static str]) -> (u16, Receiver<String>) {
    server(move |step, _| lines.get(step).map(|line| line.to_string()))
}

fn all(heard: Receiver<String>) -> String {
    let mut text = String::new();
    while let Ok(one) = heard.recv_timeout(Duration::from_millis(300)) {
        text.push_str(&one);
    }
    text
}

fn connect(port: u16, security: Security) -> (Result<Client, Error>, Duration) {
    let begun = Instant::now();
    let ended = Client::connect(&options(port).security(security).timeout(Duration::from_secs(3)));
    (ended, begun.elapsed())
}

#[test]
fn b2_starttls_stripped() {
    for features in [SCRAM, PLAIN] {
        let (port, heard) = server(move |step, _| [HEADER, features].get(step).map(|line| line.to_string()));
        let (ended, _) = connect(port, Security::StartTls);
        assert!(matches!(&ended, Err(Error::Tls(_))), "{:?}", ended.err());
        let heard = all(heard);
        assert!(heard.contains("<stream:stream") && !heard.contains("<auth"), "{heard}");
        assert!(!heard.contains("juliet"), "who we are is nobody's business yet: {heard}");
    }
}

#[test]
fn plain_without_tls_is_never_used() {
    let (port, heard) = says(&[HEADER, PLAIN]);
    let (ended, _) = connect(port, Security::Plaintext);
    assert!(matches!(&ended, Err(Error::Login(_))), "{:?}", ended.err());
    assert!(!all(heard).contains("<auth"));
}

#[test]
fn b1_data_behind_proceed() {
    let (port, heard) = says(&[
        HEADER,
        "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>",
        "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><stream:features><mechanisms \
         xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms></stream:features>",
    ]);
    let (ended, _) = connect(port, Security::StartTls);
    assert!(matches!(&ended, Err(Error::Tls(line)) if line.contains("in between")), "{:?}", ended.err());
    assert!(!all(heard).contains("<auth"));
}

#[test]
fn b7_iterations() {
    for iterations in ["2147483647", "500001", "4095", "1", "0", "-1", "99999999999999999999"] {
        let (port, _heard) = server(move |step, heard| match step {
            0 => Some(HEADER.into()),
            1 => Some(SCRAM.into()),
            2 => {
                let auth = heard.split("<auth").nth(1)?.split('>').nth(1)?.split('<').next()?;
                let first = String::from_utf8(STANDARD.decode(auth).ok()?).ok()?;
                let nonce = first.split("r=").nth(1)?;
                let challenge = format!("r={nonce}X,s={},i={iterations}", STANDARD.encode([1; 16]));
                let challenge = STANDARD.encode(challenge);
                Some(format!("<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{challenge}</challenge>"))
            }
            _ => None,
        });
        let (ended, took) = connect(port, Security::Plaintext);
        assert!(
            matches!(&ended, Err(Error::Login(_) | Error::Protocol(_))),
            "{iterations}: {:?}",
            ended.err()
        );
        assert!(took < Duration::from_secs(1), "{iterations}: {took:?}");
    }
}

#[test]
fn a_success_that_nobody_proved() {
    let (port, _) = says(&[HEADER, SCRAM, "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"]);
    let (ended, _) = connect(port, Security::Plaintext);
    assert!(matches!(&ended, Err(Error::Login(_) | Error::Protocol(_))), "{:?}", ended.err());
}

#[test]
fn h3_sent_elsewhere_without_tls() {
    let (other, there) = says(&[HEADER]);
    let (port, _) = server(move |step, _| {
        let error = format!(
            "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>127.0.0.1:{other}\
             </see-other-host></stream:error></stream:stream>"
        );
        [HEADER.to_owned(), error].get(step).cloned()
    });
    let (ended, _) = connect(port, Security::Plaintext);
    assert!(matches!(&ended, Err(Error::Protocol(_))), "{:?}", ended.err());
    assert!(there.recv_timeout(Duration::from_millis(300)).is_err(), "nobody went there");
}

#[test]
fn silence_and_endless_talk() {
    let (port, _) = says(&[]);
    let (ended, took) = connect(port, Security::StartTls);
    assert!(matches!(&ended, Err(Error::Unreachable(_))), "{:?}", ended.err());
    assert!(took < Duration::from_secs(5), "{took:?}");

    // One element without an end: cut off at a megabyte, not at the end of memory.
    let endless = server(|step, _| match step {
        0 => Some(HEADER.into()),
        1 => Some("<stream:features><a>".into()),
        _ => Some("x".repeat(65_536)),
    });
    let (ended, took) = connect(endless.0, Security::StartTls);
    assert!(ended.is_err());
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a5_what_xmpp_forbids() {
    for first in [
        "<!DOCTYPE a [<!ENTITY e 'x'>]><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "220 mail.example.org ESMTP\r\n",
        "<html></html>",
        "\u{16}\u{3}\u{1}\0",
        "</stream:stream>",
    ] {
        let (port, heard) = server(move |step, _| (step == 0).then(|| first.to_owned()));
        let (ended, _) = connect(port, Security::StartTls);
        assert!(ended.is_err(), "{first}");
        assert!(!all(heard).contains("<auth"), "{first}");
    }
}

/// Behind a login that the stage lets through: a server that turns bad.
fn after_login(script: &'static [&'static str]) -> (Result<Event, Error>, Duration) {
    let port = super::loopback::serve();
    // In between: passes everything on, and adds the script to the answer to our presence.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let between = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let (mut near, mut far) = (near.unwrap(), TcpStream::connect(("127.0.0.1", port)).unwrap());
            let (mut near2, mut far2) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut far2, &mut near2));
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = near.read(&mut buffer) {
                    let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
                    let _ = far.write_all(&buffer[..n]);
                    if text.contains("<presence") {
                        near.write_all(script.concat().as_bytes()).unwrap();
                    }
                }
            });
        }
    });
    let mut client = Client::connect(&options(between)).unwrap();
    let begun = Instant::now();
    let until = begun + Duration::from_secs(2);
    let event = client.next_event_until(until).map(|event| event.expect("something has happened"));
    (event, begun.elapsed())
}

#[test]
fn a5_after_login_too() {
    for bad in [
        &["<message><!-- x --></message>"][..],
        &["<?pi?>"],
        &["<message a='1' a='2'/>"],
        &["<message>&boom;</message>"],
        &["<message><body>\u{1}</body></message>"],
    ] {
        let (event, _) = after_login(bad);
        assert!(matches!(&event, Err(Error::Protocol(_))), "{bad:?}: {event:?}");
    }
    let error = "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>";
    let (event, _) = after_login(Box::leak(Box::new([error])));
    assert!(matches!(&event, Err(Error::Protocol(line)) if line.contains("conflict")), "{event:?}");
    let error = "<stream:error><system-shutdown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>";
    let (event, _) = after_login(Box::leak(Box::new([error])));
    assert!(matches!(&event, Err(Error::Lost(line)) if line.contains("system-shutdown")), "{event:?}");
    assert!(matches!(after_login(&["</stream:stream>"]).0, Ok(Event::Closed)));
}

#[test]
fn c2_forged_stanzas_are_not_shown() {
    let carbon = "<message from='eve@evil.test'><received xmlns='urn:xmpp:carbons:2'><forwarded \
        xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='romeo@example.net' to='juliet@example.org'>\
        <body>forged</body></message></forwarded></received></message>";
    let push = "<iq type='set' id='1' from='eve@evil.test'><query xmlns='jabber:iq:roster'><item jid='eve@evil.test'/></query></iq>";
    let true_one = "<message from='romeo@example.net'><body>true</body></message>";
    let script: &'static [&'static str] = Box::leak(Box::new([carbon, push, true_one]));
    match after_login(script).0 {
        Ok(Event::Message(m)) => assert_eq!(m.body.as_deref(), Some("true")),
        other => panic!("{other:?}"),
    }
}
