// Runs in the page: the parts of the dashboard that compute and touch nothing. Calls back with what is wrong.
const done = arguments[arguments.length - 1];
const wrong = [];
const equal = (what, got, want) => {
  const [a, b] = [got, want].map((v) => JSON.stringify(v));
  if (a !== b) wrong.push(`${what}: ${a}, not ${b}`);
};
const check = (what, holds) => holds || wrong.push(what);
const load = ["model", "layout", "story", "logs", "edit", "replay", "shell", "traffic", "dots"].map((name) => import(`/${name}.js`));

const meta = (name, more = {}) => ({ name, namespace: "default", uid: name, resourceVersion: "1", creationTimestamp: "2026-01-01T00:00:00Z", ...more });
const owner = (kind, name) => ({ ownerReferences: [{ kind, name, uid: name, controller: true }] });
const pod = (name, set, { id = "docker://1", restarts = 0, isReady = true, state = { running: {} }, last, more = {} } = {}) => ({
  metadata: meta(name, { labels: { app: "web" }, ...(set ? owner("ReplicaSet", set) : {}), ...more }),
  spec: { containers: [{ name: "c", image: "i" }] },
  status: {
    phase: "Running",
    conditions: [{ type: "Ready", status: isReady ? "True" : "False" }],
    containerStatuses: [{ name: "c", containerID: id, restartCount: restarts, ready: isReady, state, lastState: last ? { terminated: last } : {} }],
  },
});

function models({ picture, podState, readFilter, summary, ended }) {
  const template = { metadata: { labels: { app: "web" } }, spec: { containers: [{ image: "nginx:1" }] } };
  const all = {
    Deployment: [{ metadata: meta("web"), spec: { replicas: 2, template }, status: {} }],
    ReplicaSet: [{ metadata: meta("web-1", owner("Deployment", "web")), spec: { replicas: 2, template }, status: {} }],
    Pod: [pod("web-1-a", "web-1"), pod("web-1-b", "web-1", { isReady: false }), pod("alone", null), { ...pod("p", null), metadata: meta("p", { namespace: "kube-system" }) }],
    Service: [{ metadata: meta("web"), spec: { type: "NodePort", selector: { app: "web" }, ports: [{ port: 80, nodePort: 30000 }] } }, { metadata: meta("none"), spec: { ports: [] } }],
    EndpointSlice: [{ metadata: meta("web-x", { labels: { "kubernetes.io/service-name": "web" } }), endpoints: [{ conditions: { ready: true } }, { conditions: { ready: false } }] }],
  };
  const objects = (kind) => all[kind] ?? [];
  const model = picture(objects);
  equal("workloads", model.workloads.map((w) => [w.id, w.ready, w.wanted, w.state.is]), [["Pod/default/alone", 1, 1, "ready"], ["Deployment/default/web", 1, 2, "starting"]]);
  equal("services", model.services.map((s) => [s.name, s.to, s.nReady, s.nAll]), [["web", ["Pod/default/alone", "Deployment/default/web"], 1, 2], ["none", [], 0, 0]]);
  equal("entries", model.entries.map((e) => [e.kind, e.url, e.to]), [["NodePort", "http://localhost:30000", ["Service/default/web"]]]);
  equal("summary", summary(model).text, "2 of 3 pods ready");
  equal("everything", picture(objects, { namespace: "" }).workloads.length, 3);
  equal("by kind", picture(objects, { text: "kind:deploy" }).workloads.map((w) => w.name), ["web"]);
  equal("by label", picture(objects, { text: "app=web" }).workloads.length, 2);
  equal("by name", picture(objects, { text: "alo" }).workloads.map((w) => w.name), ["alone"]);
  equal("filter", readFilter("A kind:Job x=y"), { words: ["a"], kinds: ["job"], labels: [["x", "y"]] });
  equal("crash loop", podState(pod("x", null, { isReady: false, state: { waiting: { reason: "CrashLoopBackOff" } } })), { is: "failing", text: "CrashLoopBackOff" });
  equal("being deleted", podState(pod("x", null, { more: { deletionTimestamp: "2026-01-01T00:00:00Z" } })).is, "ending");
  equal("ends", [{ exitCode: 137 }, { exitCode: 1 }, { exitCode: 137, reason: "OOMKilled" }].map(ended), ["ended by SIGKILL, exit code 137", "exit code 1", "out of memory (OOMKilled)"]);
}

function layouts({ picture }, { layout, fit, next }) {
  const template = { metadata: { labels: { app: "web" } }, spec: { containers: [{ image: "i" }] } };
  const cluster = (n, each) => {
    const names = Array.from({ length: n }, (_, i) => `w${i}`);
    const all = {
      Deployment: names.map((name) => ({ metadata: meta(name), spec: { replicas: each, template }, status: {} })),
      ReplicaSet: names.map((name) => ({ metadata: meta(`${name}-1`, owner("Deployment", name)), spec: { replicas: each, template } })),
      Pod: names.flatMap((name) => Array.from({ length: each }, (_, i) => pod(`${name}-1-${i}`, `${name}-1`))),
      Service: names.map((name) => ({ metadata: meta(name), spec: { type: "NodePort", selector: { app: "web" }, ports: [{ port: 80, nodePort: 30000 + Number(name.slice(1)) }] } })),
    };
    return picture((kind) => all[kind] ?? []);
  };
  const overlap = (a, b) => a.x < b.x + b.w - 0.5 && b.x < a.x + a.w - 0.5 && a.y < b.y + b.h - 0.5 && b.y < a.y + a.h - 0.5;
  for (const [n, each] of [[1, 3], [6, 5], [12, 25], [3, 100]]) {
    const model = cluster(n, each);
    for (const width of [360, 800, 1440, 2400]) {
      const { nodes, pods, height } = layout(model, width);
      const boxes = [...nodes, ...pods];
      const what = `${n} workloads of ${each} pods at ${width}`;
      equal(`${what}: all are there`, boxes.length, n * 3 + n * each);
      check(`${what}: all are inside`, boxes.every((b) => b.x >= 0 && b.y >= 0 && b.x + b.w <= width && b.y + b.h <= height));
      const sorted = [...boxes].sort((a, b) => a.y - b.y);
      const clash = sorted.some((a, i) => sorted.slice(i + 1, i + 60).some((b) => overlap(a, b)));
      check(`${what}: none is over another`, !clash);
    }
  }
  equal("text that does not fit", fit("abcdefghij", 35.5), "abcd…");
  const at = (x, y) => ({ x, y, w: 10, h: 10 });
  const boxes = [at(0, 0), at(100, 0), at(0, 100)];
  equal("the arrow to the right", next(boxes, boxes[0], "ArrowRight"), boxes[1]);
  equal("the arrow down", next(boxes, boxes[0], "ArrowDown"), boxes[2]);
  equal("nothing is further up", next(boxes, boxes[0], "ArrowUp"), null);
}

function stories({ moments, tell, sentence, worthTelling }) {
  const change = (object, old, at, type = old ? "MODIFIED" : "ADDED") => ({ kind: "Pod", type, object, old, at });
  const first = pod("p", "s");
  const dead = pod("p", "s", { isReady: false, state: { terminated: { exitCode: 137 } } });
  const again = pod("p", "s", { id: "docker://2", restarts: 1, isReady: false, last: { exitCode: 137 } });
  const well = pod("p", "s", { id: "docker://2", restarts: 1, last: { exitCode: 137 } });
  let told = tell([], change(dead, first, 1000));
  told = tell(told, change(again, dead, 1300));
  told = tell(told, change(well, again, 1450));
  equal("a kill", told.map((s) => [s.isDone, sentence(s)]), [[true, "c in p was ended by SIGKILL, exit code 137, and healed in 450 ms"]]);
  equal("its moments", told[0].marks.map((m) => m.name), ["noticed", "started", "ready"]);
  equal("in one step", tell([], change(well, first, 5)).map((s) => s.isDone), [true]);
  const heard = [{ name: "noticed", at: 1015 }, { name: "started", at: 1210 }, { name: "ready", at: 1230 }];
  const instant = (ms) => new Date(ms).toISOString();
  const engine = { restart: 1, killed: instant(1000), ended: instant(1010), created: instant(1100), started: instant(1200) };
  equal("the engine's clock", moments(heard, engine).map((m) => `${m.name} ${m.at}`), ["killed 1000", "ended 1010", "created 1100", "started 1200", "ready 1230"]);
  equal("a crash", moments(heard, { ...engine, killed: undefined })[0].name, "ended");
  equal("another clock", moments(heard, { ...engine, started: instant(9000) }), heard);
  equal("nothing is known", moments(heard, null), heard);
  const going = pod("p", "s", { more: { deletionTimestamp: "2026-01-01T00:00:00Z" } });
  told = tell([], change(going, first, 0));
  equal("one that goes is not told of yet", worthTelling(told), []);
  told = tell(told, change(pod("q", "s", { isReady: false, state: { waiting: {} } }), undefined, 20));
  told = tell(told, change(pod("q", "s"), pod("q", "s", { isReady: false }), 700));
  equal("a pod that is replaced", told.map(sentence), ["p was replaced by q in 700 ms"]);
  const fewer = tell(tell([], change(going, first, 0)), change(pod("x", "other"), undefined, 9000));
  equal("a pod that nobody missed", fewer, []);
}

function logs({ readLine, merge, pieces }) {
  equal("a line", readLine("2026-01-01T00:00:00.123456789Z hello  world"), { at: "2026-01-01T00:00:00.123456789Z", text: "hello  world" });
  equal("no time", readLine("a b"), { at: "", text: "a b" });
  const line = (at, n) => ({ at, n, text: "" });
  equal("in the order of their times", merge([line("1", 0), line("3", 1)], [line("2", 2), line("4", 3)]).map((l) => l.at), ["1", "2", "3", "4"]);
  equal("lines are bounded", merge([], Array.from({ length: 6000 }, (_, n) => line("1", n))).length, 5000);
  equal("colours", pieces("a \x1b[1;31mred\x1b[0m b\x1b[2K"), [{ text: "a ", class: "" }, { text: "red", class: "bold fg1" }, { text: " b", class: "" }]);
}

function edits({ diff, hunks, readable, unconditional }) {
  const yaml = "metadata:\n  name: x\n  resourceVersion: '7'\n";
  equal("a new status is in nobody's way", unconditional(yaml, 2, 2), "metadata:\n  name: x\n");
  equal("another's change is", [unconditional(yaml, 2, 3), unconditional(yaml, undefined, undefined)], [yaml, yaml]);
  equal("a diff", diff("a\nb\nc", "a\nx\nc").map((l) => l.sign + l.text), [" a", "-b", "+x", " c"]);
  equal("no difference", hunks(diff("a\nb", "a\nb")), []);
  equal("around what differs", hunks(diff("1\n2\n3\n4\n5\n6", "1\n2\n3\n4\n5\n7"), 1).map((l) => l.sign + l.text), [" 5", "-6", "+7"]);
  equal("what machines read", readable("metadata:\n  managedFields:\n  - a: 1\n    b: 2\n  name: x\n"), "metadata:\n  name: x\n");
}

function replays({ History }) {
  const history = new History();
  const [a, b, c] = [pod("a", null), pod("b", null), { ...pod("a", null), changed: true }];
  const change = (type, object, old, at) => history.record({ kind: "Pod", type, object, old, at });
  change("ADDED", a, undefined, 1000);
  change("ADDED", b, undefined, 2000);
  change("MODIFIED", c, a, 3000);
  change("DELETED", b, b, 4000);
  const at = (moment) => history.at(moment, (kind) => (kind === "Pod" ? [c] : []))("Pod").map((o) => o.metadata.name + (o.changed ? "!" : ""));
  equal("the past", [999, 1000, 2500, 3500, 4000].map(at), [[], ["a"], ["a", "b"], ["a!", "b"], ["a!"]]);
  change("MODIFIED", c, c, 1_000_000);
  equal("what is long ago is forgotten", history.changes.length, 1);
}

function shells({ framed, sized, verdict, words }) {
  equal("words", words(`sh -c "echo a b" 'c d'`), ["sh", "-c", "echo a b", "c d"]);
  const ended = { status: "Failure", details: { causes: [{ reason: "ExitCode", message: "3" }] } };
  equal("ends", [ended, { status: "Success" }].map((s) => verdict(JSON.stringify(s))), ["ended with exit code 3", "ended with exit code 0"]);
  equal("a message", [...framed(4, sized({ cols: 80, rows: 24 }))], [4, ...new TextEncoder().encode('{"Width":80,"Height":24}')]);
}

const counted = (pod, connections, more = {}) => ({
  metadata: { namespace: "default", name: `web.tcp.${pod}` },
  ...{ service: "web", port: "http", podUID: pod, pod, address: "10.0.0.1:80", connections, active: 0, lost: 0, inRotation: true },
  ...more,
});

function connections({ Traffic, plot, rate }) {
  const traffic = new Traffic();
  const begun = (...args) => traffic.take(...args).begun;
  equal("what was before the page is no news", begun("ADDED", counted("a", 50), 1000), 0);
  traffic.isWhole = true;
  equal("new connections", begun("MODIFIED", counted("a", 53), 2000), 3);
  equal("a new endpoint", begun("ADDED", counted("b", 2), 2500), 2);
  equal("a pod that is back is counted from nothing", begun("MODIFIED", counted("a", 1), 3000), 1);
  equal("lost ones", traffic.take("MODIFIED", counted("a", 1, { lost: 2 }), 3500).lost, 2);
  equal("since when", [0, 3500, 3501].map((at) => traffic.lostSince("a", at)), [2, 2, 0]);
  equal("a second", rate(traffic.endpoints.get("default/web.tcp.a"), 4000, 2), 2);
  equal("a plot ends now", plot({ rates: [{ second: 99, n: 4 }] }, 100_000, 59, 10, 4).split("L").at(-1), "59,1");
  traffic.take("DELETED", counted("b", 2), 4000);
  equal("one that went", traffic.all().map((one) => one.object.pod), ["a"]);
  return traffic;
}

function ways({ picture }, { layout }, { way, scaleOf }) {
  const template = { metadata: { labels: { app: "web" } }, spec: { containers: [{ image: "i" }] } };
  const cluster = (n) => ({
    Deployment: [{ metadata: meta("web"), spec: { replicas: n, template }, status: {} }],
    ReplicaSet: [{ metadata: meta("web-1", owner("Deployment", "web")), spec: { replicas: n, template } }],
    Pod: Array.from({ length: n }, (_, i) => pod(`web-1-${i}`, "web-1")),
    Service: [{ metadata: meta("web"), spec: { type: "NodePort", selector: { app: "web" }, ports: [{ name: "admin", port: 81, nodePort: 30001 }, { name: "http", port: 80, nodePort: 30000 }] } }],
  });
  for (const n of [3, 40]) {
    const objects = cluster(n);
    const model = picture((kind) => objects[kind] ?? []);
    const placed = layout(model, 1440);
    const edges = way(placed, model, counted("web-1-1", 1));
    equal(`the way to one of ${n}`, edges.length, 3);
    equal("through its own port", edges[0], placed.edges.find((e) => e.from === "NodePort/default/web/localhost:30000").d);
    equal("a pod that is not shown", way(placed, model, counted("gone", 1)), []);
  }
  equal("a dot is a connection", scaleOf(0, 40).each, 1);
  equal("of many it is several", scaleOf(0, 400).each, 10);
  check("the scale comes back slowly", scaleOf(400, 1).each > 5 && scaleOf(30, 1).each === 1);
}

function replies({ answered }, traffic) {
  const story = { id: "s", about: "container", uid: "a", isDone: true, marks: [{ name: "killed", at: 3400 }, { name: "ready", at: 3600 }] };
  equal("nobody has connected yet", answered([story], traffic)[0], story);
  traffic.take("MODIFIED", counted("a", 2, { lost: 2, firstReply: new Date(3725).toISOString() }), 3800);
  const told = answered([story], traffic);
  equal("the first connection", [told[0].served - 3400, told[0].lost], [325, 2]);
  check("it is told once", answered(told, traffic) === told);
}

Promise.all(load)
  .then(([model, place, story, log, edit, replay, shell, traffic, dots]) => {
    replies(story, connections(traffic));
    ways(model, place, dots);
    shells(shell);
    replays(replay);
    models(model);
    layouts(model, place);
    stories(story);
    logs(log);
    edits(edit);
  })
  .catch((err) => wrong.push(String(err.stack)))
  .finally(() => done(wrong));
