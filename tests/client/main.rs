//! The client half over real sockets: against a server that behaves, and against those that do not
//! (threats B1, B2, B7, H3).

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::string_slice, clippy::arithmetic_side_effects)]

mod hostile;
mod loopback;

use std::time::{Duration, Instant};
use stonechat::client::{Client, Draft, Error, Event, Options, Request, Security};
use stonechat::xml::ns;

fn options(port: u16) -> Options {
    let options = Options::new("juliet@example.org/balcony", "pencil").unwrap();
    options.at("127.0.0.1", port).security(Security::Plaintext).timeout(Duration::from_secs(5))
}

#[test]
fn a_whole_conversation() {
    let mut client = Client::connect(&options(loopback::serve())).unwrap();
    assert_eq!(client.jid(), "juliet@example.org/balcony");
    let draft = Draft::chat("juliet@example.org", "Grüße <&>").subject("s");
    client.send(&draft).unwrap();
    match client.next_event().unwrap() {
        Event::Message(m) => {
            assert_eq!(
                (m.from.as_str(), m.body.as_deref()),
                ("juliet@example.org/balcony", Some("Grüße <&>"))
            );
            assert_eq!((m.subject.as_deref(), m.id.as_deref()), (Some("s"), Some(draft.id.as_str())));
        }
        other => panic!("{other:?}"),
    }
    let answer = client.request(Request::Get, Some("example.org"), |w| {
        w.leaf("query", ns::VERSION);
    });
    assert!(answer.unwrap().text().contains("type='result'"));
    let soon = Instant::now() + Duration::from_millis(50);
    assert!(client.next_event_until(soon).unwrap().is_none());
    client.close();
}

#[test]
fn many_messages_and_a_big_one() {
    let mut client = Client::connect(&options(loopback::serve())).unwrap();
    let big = "x".repeat(200_000);
    for n in 0..200 {
        client.session().send(&Draft::chat("juliet@example.org", format!("{n}")));
    }
    client.send(&Draft::chat("juliet@example.org", big.clone())).unwrap();
    for n in 0..=200 {
        let Event::Message(m) = client.next_event().unwrap() else { panic!("{n}") };
        let want = if n == 200 { big.clone() } else { n.to_string() };
        assert_eq!(m.body, Some(want), "{n}");
    }
}

#[test]
fn a_wrong_password() {
    let mut options = options(loopback::serve());
    options.password = Some(stonechat::stream::Secret::new("pencils"));
    assert!(matches!(Client::connect(&options), Err(Error::Login(_))));
}

#[test]
fn what_the_caller_may_not_send() {
    let mut client = Client::connect(&options(loopback::serve())).unwrap();
    for bad in [
        "",
        "text",
        "<message>",
        "<message/></stream:stream>",
        "<message/><",
        "<a xmlns='x'/>",
        "<message xmlns='x'/>",
        "<e:message/>",
        "<message><!-- --></message>",
        "<message/><?pi?>",
    ] {
        assert!(matches!(client.session().send_raw(bad), Err(Error::Invalid(_))), "{bad}");
    }
    client.session().send_raw(" <message to='a'><body>1</body></message>\n<presence/> ").unwrap();
    for bad in ["<a/><b/>", "", "<a", "</iq><iq>", "<e:a/>"] {
        let ended = stonechat::client::wait::block_on(client.session().request_raw(Request::Get, None, bad));
        assert!(matches!(ended, Err(Error::Invalid(_))), "{bad}");
    }
    // The stream is still whole.
    client.send(&Draft::chat("juliet@example.org", "still here")).unwrap();
}
