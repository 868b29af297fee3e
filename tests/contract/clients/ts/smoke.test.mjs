// The official TypeScript client against TURBOPUFFER_BASE_URL, which holds the placeholder {region}.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import Turbopuffer from "@turbopuffer/turbopuffer";

const NAME = `contract-ts-${process.pid}`;
const options = { region: "gcp-us-central1", maxRetries: 0, timeout: 20_000 };
const client = new Turbopuffer(options);
const ns = client.namespace(NAME);
const copy = client.namespace(`${NAME}-copy`);

before(async () => {
  await ns.write({
    upsert_rows: [
      { id: 1, vector: [1, 0], name: "fox", n: 1, tags: ["a", "b"], text: "the quick brown fox" },
      { id: 2, vector: [0, 1], name: "dog", n: 2, tags: ["b"], text: "the lazy dog" },
      { id: 3, vector: [0.7, 0.7], name: "cat", n: 2, text: "a fox and another fox" },
    ],
    distance_metric: "cosine_distance",
    schema: { text: { type: "string", full_text_search: { stemming: true } } },
  });
});

after(async () => {
  await Promise.allSettled([ns.deleteAll(), copy.deleteAll()]);
});

const ids = (result) => result.rows.map((row) => row.id);

test("vector search with a filter", async () => {
  const result = await ns.query({
    rank_by: ["vector", "ANN", [1, 0]],
    limit: 2,
    filters: ["n", "Gte", 1],
    include_attributes: ["name"],
  });
  assert.deepEqual(ids(result), [1, 3]);
  assert.equal(result.rows[0].name, "fox");
  assert.ok(Math.abs(result.rows[0].$dist) < 1e-6);
  assert.ok(result.performance.query_execution_ms > 2);
});

test("stored floats keep their shortest form", async () => {
  const result = await ns.query({ rank_by: ["id", "asc"], limit: 3, include_attributes: true });
  assert.deepEqual(result.rows[2].vector, [0.7, 0.7]);
});

test("full text", async () => {
  assert.deepEqual(ids(await ns.query({ rank_by: ["text", "BM25", "foxes"], top_k: 10 })), [3, 1]);
});

test("attribute order", async () => {
  assert.deepEqual(ids(await ns.query({ rank_by: ["n", "desc"], limit: 10 })), [2, 3, 1]);
});

test("aggregates and groups", async () => {
  const total = await ns.query({ aggregate_by: { count: ["Count"], sum: ["Sum", "n"] } });
  assert.deepEqual(total.aggregations, { count: 3, sum: 5 });
  const groups = await ns.query({ aggregate_by: { count: ["Count"] }, group_by: ["n"], limit: 10 });
  assert.deepEqual(groups.aggregation_groups, [
    { n: 1, count: 1 },
    { n: 2, count: 2 },
  ]);
});

test("several queries, plain and fused", async () => {
  const queries = [
    { rank_by: ["vector", "ANN", [0, 1]], limit: 3 },
    { rank_by: ["text", "BM25", "fox"], limit: 3 },
  ];
  const plain = await ns.multiQuery({ queries });
  assert.deepEqual(plain.results.map(ids), [
    [2, 3, 1],
    [3, 1],
  ]);
  const fused = await ns.multiQuery({ queries, rerank_by: ["RRF"] });
  assert.equal(fused.results.length, 1);
  assert.deepEqual(ids(fused.results[0]), [3, 1, 2]);
});

test("schema, its update, metadata", async () => {
  const schema = await ns.schema();
  assert.equal(schema.text.type, "string");
  assert.equal(schema.text.full_text_search.stemming, true);
  assert.equal(schema.id.filterable, null);
  const updated = await ns.updateSchema({ schema: { name: { type: "string", filterable: false } } });
  assert.equal(updated.name.filterable, false);
  const metadata = await ns.metadata();
  assert.deepEqual(metadata.index, { status: "up-to-date" });
  assert.deepEqual(metadata.schema.vector.ann, { distance_metric: "cosine_distance" });
});

test("listing pages", async () => {
  const found = [];
  for await (const summary of client.namespaces({ prefix: NAME, page_size: 1 })) {
    found.push(summary.id);
  }
  assert.ok(found.includes(NAME));
});

test("patch, conditional upsert, delete", async () => {
  await ns.write({ upsert_rows: [{ id: 10, vector: [1, 1], name: "old" }] });
  const patched = await ns.write({ patch_rows: [{ id: 10, name: "new" }] });
  assert.equal(patched.rows_patched, 1);
  const kept = await ns.write({
    upsert_rows: [{ id: 10, vector: [1, 1], name: "lost" }],
    upsert_condition: ["id", "Eq", null],
  });
  assert.equal(kept.rows_affected, 0);
  const result = await ns.query({ rank_by: ["id", "asc"], limit: 1, filters: ["id", "Eq", 10], include_attributes: ["name"] });
  assert.equal(result.rows[0].name, "new");
  assert.equal((await ns.write({ deletes: [10] })).rows_deleted, 1);
});

test("copy", async () => {
  const answer = await copy.copyFrom({ source_namespace: NAME });
  assert.equal(answer.status, "OK");
  assert.equal(await copy.exists(), true);
  assert.equal((await copy.query({ aggregate_by: { count: ["Count"] } })).aggregations.count, 3);
});

test("large bodies compressed both ways", async () => {
  const packed = new Turbopuffer({ ...options, compression: true }).namespace(`${NAME}-gzip`);
  // Sent as 32-bit floats, whose shortest decimal form is not the 64-bit number's.
  const vector = Array.from({ length: 2048 }, (_, position) => position / 2048);
  await packed.write({ upsert_rows: [{ id: 1, vector }], distance_metric: "cosine_distance" });
  const result = await packed.query({ rank_by: ["vector", "ANN", vector], limit: 1, include_attributes: true });
  assert.deepEqual(result.rows[0].vector.map(Math.fround), vector);
  await packed.deleteAll();
});

test("warm hint and recall", async () => {
  assert.equal((await ns.hintCacheWarm()).status, "ACCEPTED");
  const recall = await ns.recall({ num: 1, top_k: 2 });
  assert.equal(recall.avg_recall, 1);
});

test("errors have their classes", async () => {
  const missing = client.namespace(`${NAME}-missing`);
  assert.equal(await missing.exists(), false);
  await assert.rejects(missing.query({ rank_by: ["id", "asc"], limit: 1 }), (error) => {
    assert.ok(error instanceof Turbopuffer.NotFoundError);
    assert.match(error.message, /was not found/);
    return true;
  });
  await assert.rejects(ns.query({ rank_by: ["id", "asc"] }), (error) => {
    assert.ok(error instanceof Turbopuffer.BadRequestError);
    assert.match(error.message, /rank_by queries must specify top_k or limit/);
    return true;
  });
  await assert.rejects(ns.write({ upsert_rows: {} }), Turbopuffer.UnprocessableEntityError);
});
