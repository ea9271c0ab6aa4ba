// Uses ioredis as programs do, and prints what it sees: the same before a server and before the proxy.
const Redis = require("ioredis");
const port = Number(process.argv[2]);
const show = (name, value) => console.log(name, JSON.stringify(value));

async function main() {
  const redis = new Redis(port, "127.0.0.1");
  redis.on("error", () => {});
  await redis.flushall();
  show("pipeline", await redis.pipeline().set("a", "1").incr("a").lpush("a", "x").get("a").exec().then((all) => all.map(([e, v]) => e ? e.message : v)));
  show("multi", await redis.multi().set("b", "1").incrby("b", 41).exec());
  await redis.watch("b");
  const other = redis.duplicate();
  await other.set("b", "changed");
  show("watch", await redis.multi().set("b", "lost").exec());
  redis.defineCommand("addUp", { numberOfKeys: 2, lua: "return redis.call('INCRBY', KEYS[1], redis.call('GET', KEYS[2]) + ARGV[1])" });
  await redis.set("two", "2");
  show("script", [await redis.addUp("sum", "two", 3), await redis.addUp("sum", "two", 3)]);
  await redis.script("FLUSH");
  show("script again", await redis.addUp("sum", "two", 3));
  const waiting = other.blpop("list", 10);
  await redis.rpush("list", "first", "second");
  show("blpop", [await waiting, await redis.lrange("list", 0, -1), await other.blpop("nothing", 0.05)]);
  for (let n = 0; n < 5; n++) await redis.xadd("stream", `${n + 1}-0`, "n", String(n));
  await redis.xgroup("CREATE", "stream", "g", "0");
  show("stream", await redis.xreadgroup("GROUP", "g", "c", "COUNT", 3, "STREAMS", "stream", ">"));
  show("ack", [await redis.xack("stream", "g", "1-0", "2-0"), (await redis.xpending("stream", "g"))]);
  const heard = [];
  const subscriber = redis.duplicate();
  await subscriber.subscribe("news");
  await subscriber.psubscribe("n*");
  const all = new Promise((done) => {
    const hear = (...what) => heard.push(what) === 4 && done();
    subscriber.on("message", (channel, text) => hear("message", channel, text));
    subscriber.on("pmessage", (pattern, channel, text) => hear("pmessage", pattern, channel, text));
  });
  await redis.publish("news", "one");
  await redis.publish("news", "two");
  await all;
  show("heard", heard.sort());
  const ended = new Promise((done) => other.once("close", done));
  await redis.client("KILL", "ID", await other.client("ID"));
  await ended;
  show("reconnected", await other.get("two"));
  show("buffers", (await redis.getBuffer("two")).toString());
  const found = [];
  for await (const page of redis.scanStream({ match: "*", count: 2 })) found.push(...page);
  show("scan", [...new Set(found)].sort());
  for (const one of [redis, other, subscriber]) one.disconnect();
  console.log("done");
}

main().catch((error) => { console.log("failed", error.stack); process.exit(1); });
