//! A managed outbox over real sockets that are full, cut and found again at any moment.

use super::*;
use crate::net::reactor::Reactor;
use std::io::Read;
use std::net::TcpListener;

const BOUND: usize = 200_000;

/// Numbers that look like dice, the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// The other side: what it has read on this connection, and all that it has handled.
struct Far {
    io: TcpStream,
    left: Vec<u8>,
    got: Vec<usize>,
    asked: usize,
}

impl Far {
    /// Reads so much, or what there is.
    fn read(&mut self, room: usize) {
        let mut buffer = vec![0; room];
        while let Ok(n @ 1..) = self.io.read(&mut buffer) {
            self.left.extend_from_slice(&buffer[..n]);
            if n < room || room < 100_000 {
                break;
            }
        }
        let mut taken = 0;
        let (got, asked) = (&mut self.got, &mut self.asked);
        each_stanza(&self.left, |frame| {
            taken += frame.len();
            let text = std::str::from_utf8(frame).unwrap();
            match text.strip_prefix("<message id='") {
                Some(rest) => got.push(rest.split_once('\'').unwrap().0.parse().unwrap()),
                None if text.starts_with("<r ") => *asked += 1,
                None => assert!(text.starts_with("<resumed") || text.starts_with("<enabled"), "{text}"),
            }
            true
        });
        self.left.drain(..taken);
    }

    fn h(&self) -> u32 {
        self.got.len() as u32
    }
}

fn connect(reactor: &Rc<Reactor>) -> (Rc<Conn>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    far.set_nonblocking(true).unwrap();
    let (near, peer) = listener.accept().unwrap();
    (Conn::new(Socket::new(reactor, near).unwrap(), peer), far)
}

fn message(n: usize, size: u64) -> Vec<u8> {
    format!("<message id='{n}'><body>{}</body></message>", "x".repeat(size as usize)).into_bytes()
}

#[test]
fn each_comes_once_and_in_order_whatever_happens() {
    for seed in 0..40 {
        let reactor = Reactor::new().unwrap();
        let (mut numbers, mut pool) = (Numbers(seed), Pool::default());
        let (conn, io) = connect(&reactor);
        let mut far = Far { io, left: Vec::new(), got: Vec::new(), asked: 0 };
        let mut outbox = Outbox { jid: None, ..Outbox::without_conn() };
        outbox.attach(conn, b"");
        outbox.bytes.extend_from_slice(b"<enabled xmlns='urn:xmpp:sm:3'/>");
        outbox.manage();
        let (mut said, mut marks) = (0, VecDeque::new());
        let fulfilled = |due: &mut Vec<Taken>, marks: &mut VecDeque<usize>, got: usize| {
            for _ in due.drain(..) {
                assert!(marks.pop_front().unwrap() <= got, "taken before it was acknowledged");
            }
        };
        let mut due = Vec::new();
        for step in 0..400 {
            let last = step >= 380;
            match numbers.below(8) {
                0..=2 if !last => {
                    let sizes = [10, 10, 500, 70_000];
                    for _ in 0..numbers.below(6) {
                        match outbox.open(BOUND, &mut pool) {
                            Some((bytes, _)) => {
                                bytes.extend(message(said, sizes[numbers.below(4) as usize]));
                                said += 1;
                            }
                            None => break,
                        }
                    }
                    assert!(outbox.bytes.len() < BOUND * 3, "bounded: {}", outbox.bytes.len());
                    if outbox.when_taken(Box::new(|_, _, _| {})).is_none() {
                        marks.push_back(said);
                    } else {
                        assert_eq!(outbox.kept().map(|k| k.is_empty()), Some(true));
                    }
                }
                3 | 4 => {
                    outbox.blocked = false;
                    assert!(!matches!(outbox.flush(&mut pool, &mut due), Flushed::Dead));
                }
                5 => far.read(if last { 1 << 20 } else { 1 + numbers.below(90_000) as usize }),
                6 => {
                    outbox.acknowledge(far.h(), &mut pool, &mut due).unwrap();
                }
                _ if numbers.below(3) == 0 && !last => {
                    outbox.detach();
                    if numbers.below(2) == 0
                        && let Some((bytes, _)) = outbox.open(BOUND, &mut pool)
                    {
                        bytes.extend(message(said, 5));
                        said += 1;
                    }
                    // It may have read on before it saw the end.
                    if numbers.below(2) == 0 {
                        far.read(1 << 20);
                    }
                    outbox.acknowledge(far.h(), &mut pool, &mut due).unwrap();
                    let (conn, io) = connect(&reactor);
                    far = Far { io, left: Vec::new(), ..far };
                    outbox.attach(conn, b"<resumed xmlns='urn:xmpp:sm:3'/>");
                }
                _ => {}
            }
            fulfilled(&mut due, &mut marks, far.got.len());
        }
        for _ in 0..100 {
            outbox.blocked = false;
            outbox.flush(&mut pool, &mut due);
            far.read(1 << 20);
            outbox.acknowledge(far.h(), &mut pool, &mut due).unwrap();
            std::thread::yield_now();
        }
        fulfilled(&mut due, &mut marks, far.got.len());
        assert_eq!(far.got, (0..said).collect::<Vec<_>>(), "seed {seed}");
        assert!(marks.is_empty() && far.asked > 0, "seed {seed}: {} wait", marks.len());
        assert_eq!(outbox.bytes.capacity(), 0, "nothing is kept when nothing is under way");
        assert!(outbox.acknowledge(far.h() + 1, &mut pool, &mut due).is_err());
    }
}

#[test]
fn what_is_given_up_is_given_back() {
    let reactor = Reactor::new().unwrap();
    let mut pool = Pool::default();
    for (managed, acknowledged, back) in [(false, 0, 0), (true, 0, 3), (true, 2, 1)] {
        let (conn, _far) = connect(&reactor);
        let mut outbox = Outbox::without_conn();
        if managed {
            outbox.manage();
        }
        for n in 0..3 {
            outbox.open(BOUND, &mut pool).unwrap().0.extend(message(n, 1));
        }
        let mut due = Vec::new();
        outbox.attach(conn, b"<stream:features/>");
        assert!(outbox.when_taken(Box::new(|_, _, _| {})).is_none());
        assert!(matches!(outbox.flush(&mut pool, &mut due), Flushed::Clean));
        outbox.acknowledge(acknowledged, &mut pool, &mut due).unwrap();
        assert_eq!(due.len(), usize::from(!managed));
        let (rest, waiting) = outbox.give_up();
        let mut stanzas = 0;
        each_stanza(&rest, |frame| {
            stanzas += usize::from(is_stanza(frame));
            true
        });
        assert_eq!((stanzas, waiting.len()), (back, usize::from(managed)));
        assert!(outbox.give_up().0.is_empty(), "once");
    }
}
