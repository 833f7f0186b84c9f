// @xmpp/client as it comes: `node scene.mjs SERVICE DOMAIN PASSWORD`; prints `ok …` or `FAIL …` lines.
import { client, xml } from "@xmpp/client";

const [service, domain, password] = process.argv.slice(2);
let failed = 0;
const check = (what, holds = true, detail = "") => {
  if (!holds) failed += 1;
  console.log(`${holds ? "ok  " : "FAIL"} ${what}${holds ? "" : `: ${detail}`}`);
};
const bounded = (what, promise) =>
  Promise.race([promise, new Promise((_, no) => setTimeout(() => no(new Error(`not in time: ${what}`)), 10000).unref())]);

class User {
  constructor(name, resource) {
    this.kept = [];
    this.waiting = [];
    this.xmpp = client({ service, domain, username: name, password, resource, timeout: 8000 });
    this.xmpp.on("error", (e) => console.log(`# ${name}: ${e}`));
    this.xmpp.on("stanza", (s) => {
      this.kept.push(s);
      this.waiting = this.waiting.filter((w) => !w(s));
    });
  }

  wait(what, fits) {
    const seen = this.kept.find(fits);
    if (seen) return Promise.resolve(seen);
    return bounded(what, new Promise((yes) => this.waiting.push((s) => fits(s) && (yes(s), true))));
  }

  roster() {
    return this.xmpp.iqCaller.get(xml("query", "jabber:iq:roster"));
  }

  async start() {
    this.xmpp.reconnect.stop();
    this.jid = await bounded("login", this.xmpp.start());
    // Who never asks for the roster is not told of subscriptions (RFC 6121 §3.1.6).
    await bounded("roster", this.roster());
    await this.xmpp.send(xml("presence"));
    await this.wait("own presence", (s) => s.is("presence") && s.attrs.from === this.jid.toString());
    return this;
  }
}

const alice = await new User("alice", "js").start();
check("login, resource bound", alice.jid.toString() === `alice@${domain}/js`, alice.jid);
check("the socket is secure", alice.xmpp.socket.secure === true);
const bob = await new User("bob").start();
check("login with a resource of the server's choice", bob.jid.getResource().length > 0, bob.jid);

const text = "from node: ünïcödé <&> 🥊";
await alice.xmpp.send(xml("message", { type: "chat", to: bob.jid.toString(), id: "m1" }, xml("body", {}, text)));
let m = await bob.wait("message", (s) => s.is("message") && s.attrs.id === "m1");
check("message", m.getChildText("body") === text && m.attrs.from === alice.jid.toString(), m);

await alice.xmpp.send(xml("presence", { to: `bob@${domain}`, type: "subscribe" }));
await bob.wait("subscribe", (s) => s.is("presence") && s.attrs.type === "subscribe");
await bob.xmpp.send(xml("presence", { to: `alice@${domain}`, type: "subscribed" }));
await alice.wait("subscribed", (s) => s.is("presence") && s.attrs.type === "subscribed");
await bob.xmpp.send(xml("presence", {}, xml("show", {}, "away"), xml("status", {}, "at lunch")));
const p = await alice.wait("presence", (s) => s.is("presence") && s.getChildText("show") === "away");
check("presence", p.getChildText("status") === "at lunch" && p.attrs.from === bob.jid.toString(), p);

const { iqCaller } = alice.xmpp;
const roster = await bounded("roster", alice.roster());
check("roster", roster.getChildren("item").some((i) => i.attrs.jid === `bob@${domain}` && i.attrs.subscription === "to"), roster);
await bounded("ping", iqCaller.request(xml("iq", { type: "get", to: bob.jid.toString() }, xml("ping", "urn:xmpp:ping"))));
check("ping from client to client");
try {
  await bounded("error", iqCaller.get(xml("query", "urn:example:unknown")));
  check("an unknown iq", false);
} catch (e) {
  check("an unknown iq is an error", ["service-unavailable", "feature-not-implemented"].includes(e.condition), e);
}

await bounded("stop", bob.xmpp.stop());
await alice.wait("unavailable", (s) => s.is("presence") && s.attrs.type === "unavailable" && s.attrs.from === bob.jid.toString());
check("unavailable when the other stops");
await alice.xmpp.send(xml("message", { type: "chat", to: `bob@${domain}` }, xml("body", {}, "while away")));
const again = await new User("bob").start();
m = await again.wait("offline message", (s) => s.is("message") && s.getChildText("body") === "while away");
check("an offline message with its delay", m.getChild("delay", "urn:xmpp:delay") !== undefined, m);

const wrong = client({ service, domain, username: "alice", password: "wrong", timeout: 8000 });
wrong.reconnect.stop();
wrong.on("error", () => {});
const refusal = await bounded("refusal", wrong.start()).then(() => "none", (e) => e.condition ?? String(e));
check("a wrong password is refused", refusal === "not-authorized", refusal);
await wrong.stop().catch(() => {});

for (const u of [alice, again]) await bounded("stop", u.xmpp.stop());
check("streams end");
process.exit(failed ? 1 : 0);
