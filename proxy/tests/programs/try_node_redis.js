// Uses node-redis as programs do, in both protocol versions, and prints what it sees.
const { createClient, defineScript, NumberReply } = require("redis");
const port = Number(process.argv[2]);
const show = (name, value) => console.log(name, JSON.stringify(value));

async function use(RESP) {
  const scripts = {
    twice: defineScript({
      SCRIPT: "return redis.call('INCRBY', KEYS[1], ARGV[1] * 2)",
      NUMBER_OF_KEYS: 1,
      parseCommand(parser, key, by) { parser.pushKey(key); parser.push(String(by)); },
      transformReply: (reply) => reply,
    }),
  };
  const client = createClient({ RESP, scripts, socket: { host: "127.0.0.1", port } });
  client.on("error", () => {});
  await client.connect();
  await client.flushAll();
  show("pipeline", await Promise.all([client.set("a", "1"), client.incr("a"), client.get("a")]));
  show("multi", await client.multi().set("b", "1").incrBy("b", 41).exec());
  show("script", [await client.twice("n", 4), await client.twice("n", 5)]);
  await client.hSet("h", { x: "1", y: "2" });
  show("hash", await client.hGetAll("h"));
  await client.zAdd("z", [{ score: 1.5, value: "one" }, { score: 2, value: "two" }]);
  show("sorted", await client.zRangeWithScores("z", 0, -1));
  const other = client.duplicate();
  other.on("error", () => {});
  await other.connect();
  const waiting = other.blPop("list", 10);
  await client.rPush("list", ["first", "second"]);
  show("blpop", [await waiting, await client.lRange("list", 0, -1)]);
  for (let n = 0; n < 4; n++) await client.xAdd("stream", `${n + 1}-0`, { n: String(n) });
  await client.xGroupCreate("stream", "g", "0");
  show("stream", await client.xReadGroup("g", "c", { key: "stream", id: ">" }, { COUNT: 2 }));
  show("ack", await client.xAck("stream", "g", ["1-0"]));
  const heard = [];
  const subscriber = client.duplicate();
  await subscriber.connect();
  await new Promise(async (done) => {
    await subscriber.subscribe("news", (text) => heard.push(text) === 2 && done());
    await client.publish("news", "one");
    await client.publish("news", "two");
  });
  show("heard", heard);
  await other.watch("b");
  await client.set("b", "changed");
  show("watch", await other.multi().set("b", "lost").exec().catch((error) => error.constructor.name));
  const ready = new Promise((done) => other.once("ready", done));
  await client.sendCommand(["CLIENT", "KILL", "ID", String(await other.sendCommand(["CLIENT", "ID"]))]);
  await ready;
  show("reconnected", await other.get("b"));
  for (const one of [client, other, subscriber]) one.destroy();
}

use(2).then(() => use(3)).then(() => console.log("done"), (error) => { console.log("failed", error.stack); process.exit(1); });
