// Two libraries that live on scripts and deadlines: redlock, and the limiter of rate-limiter-flexible.
const Redis = require("ioredis");
const Redlock = require("redlock");
const { RateLimiterRedis } = require("rate-limiter-flexible");
const port = Number(process.argv[2]);
const show = (name, value) => console.log(name, JSON.stringify(value));

async function main() {
  const redis = new Redis(port, "127.0.0.1");
  await redis.flushall();
  const locks = new Redlock([redis], { retryCount: 0 });
  const lock = await locks.lock("resource", 5000);
  show("second holder", await locks.lock("resource", 5000).then(() => "got it", (error) => error.name));
  await lock.extend(8000);
  show("extended", (await redis.pttl("resource")) > 5000);
  await lock.unlock();
  show("after release", await redis.exists("resource"));
  const short = await locks.lock("resource", 50);
  const patient = new Redlock([redis], { retryCount: 100, retryDelay: 10 });
  const next = await patient.lock("resource", 1000);
  show("after its end", (await redis.get("resource")) === next.value);
  show("late release", await short.unlock().then(() => "released", (error) => error.name));
  await next.unlock();

  const limiter = new RateLimiterRedis({ storeClient: redis, points: 5, duration: 100, keyPrefix: "limit" });
  const tries = await Promise.all(Array.from({ length: 8 }, () => limiter.consume("user").then((r) => r.remainingPoints, (r) => `no ${r.consumedPoints}`)));
  show("limited", tries.sort());
  show("left", (await limiter.get("user")).consumedPoints);
  await limiter.penalty("user", 2);
  await limiter.reward("user", 1);
  show("after penalty", (await limiter.get("user")).consumedPoints);
  show("deadline", (await redis.pttl("limit:user")) > 90000);
  await limiter.delete("user");
  show("deleted", await limiter.get("user"));
  redis.disconnect();
  console.log("done");
}

main().catch((error) => { console.log("failed", error.stack); process.exit(1); });
