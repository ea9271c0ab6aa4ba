// A web server whose sessions connect-redis keeps, asked by browsers over HTTP: each session holds its own, lives
// as long as it is used, and ends at its time.
const http = require("http");
const session = require("express-session");
const { RedisStore } = require("connect-redis");
const { createClient } = require("redis");
const port = Number(process.argv[2]);
const show = (name, value) => console.log(name, JSON.stringify(value));

/** One browser: it keeps its cookie. */
function browser(server) {
  let cookie;
  return (path) => new Promise((done, failed) => {
    const headers = cookie ? { cookie } : {};
    http.get({ port: server.address().port, host: "127.0.0.1", path, headers }, (answer) => {
      const given = answer.headers["set-cookie"];
      if (given) cookie = given[0].split(";")[0];
      let text = "";
      answer.on("data", (part) => (text += part)).on("end", () => done(text));
    }).on("error", failed);
  });
}

/** Counts the pages that each session has seen; logs in with a new session, and out. */
function pages(request, answer) {
  const own = request.session;
  const say = (text) => answer.end(String(text));
  if (request.url === "/login") return own.regenerate(() => { request.session.user = "ann"; say("hello"); });
  if (request.url === "/logout") return own.destroy(() => say("bye"));
  if (request.url === "/idle") return say(own.seen || 0);
  own.seen = (own.seen || 0) + 1;
  say(`${own.user || "nobody"} ${own.seen}`);
}

async function until(what, condition) {
  const end = Date.now() + 30000;
  while (!(await condition())) if (Date.now() > end) throw new Error(`waited in vain until ${what}`);
  console.log(what);
}

async function main() {
  const client = createClient({ socket: { host: "127.0.0.1", port } });
  client.on("error", () => {});
  await client.connect();
  await client.flushAll();
  const store = new RedisStore({ client, prefix: "s:" });
  const settings = { store, secret: "not one", resave: false, saveUninitialized: false, rolling: true };
  const keep = session({ ...settings, cookie: { maxAge: 100000 } });
  const server = http.createServer((request, answer) => keep(request, answer, () => pages(request, answer)));
  await new Promise((done) => server.listen(0, "127.0.0.1", done));

  const many = Array.from({ length: 20 }, () => browser(server));
  for (let turn = 0; turn < 3; turn++) await Promise.all(many.map((visit) => visit("/")));
  show("each its own", await Promise.all(many.map((visit) => visit("/"))));
  const ann = browser(server);
  show("ann", [await ann("/"), await ann("/login"), await ann("/"), await ann("/")]);
  show("sessions", await store.length());
  show("users", (await store.all()).filter((one) => one.user).map((one) => [one.user, one.seen]));
  const left = async () => Promise.all((await store.ids()).map((id) => client.ttl(`s:${id}`)));
  show("kept", (await left()).every((seconds) => seconds > 90 && seconds <= 100));

  // Whoever comes back in time is kept on, without a write of the session.
  const [first] = await store.ids();
  await client.expire(`s:${first}`, 20);
  show("soon over", (await left()).filter((seconds) => seconds <= 20).length);
  await Promise.all([ann, ...many].map((visit) => visit("/idle")));
  show("touched", (await left()).every((seconds) => seconds > 90));
  show("bye", [await ann("/logout"), await store.length(), await ann("/")]);

  const found = (id) => new Promise((done) => store.get(id, (error, one) => done(error || one)));
  const begun = Date.now();
  await store.set("short", { cookie: { expires: new Date(begun + 900) }, user: "bob" });
  await store.set("ended", { cookie: { expires: new Date(begun - 1) } });
  show("short", [(await found("short")).user, await found("ended")]);
  await until("the short one ends", async () => (await found("short")) === null);
  // connect-redis counts in whole seconds.
  show("at its time", Date.now() - begun >= 990 && Date.now() - begun < 5000);
  await store.clear();
  show("cleared", [await store.length(), await client.dbSize()]);
  server.close();
  client.destroy();
}

main().then(() => console.log("done"), (error) => { console.log("failed", error.stack); process.exit(1); });
