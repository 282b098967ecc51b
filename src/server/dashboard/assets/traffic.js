// Connections, live: what the data plane counts at each endpoint while this page is open. Dots of the picture, counts and plots come from it.

import { Refused, getJson, socket } from "./api.js";

const PATH = "/apis/skiff.dev/v1/endpointtraffic";
const QUERY = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
/** How far back the plots go, and what was lost is remembered. */
const SECONDS = 60;
/** How long to wait before the watch is begun again. */
const PAUSES_MS = [200, 1000, 4000];

/** Keeps what is counted. Listeners are told of connections as they are begun and lost. */
export class Traffic {
  constructor() {
    /** By namespace and name: the object, and connections by second. */
    this.endpoints = new Map();
    this.listeners = new Set();
    /** Whether what was counted before the page came is known. */
    this.isWhole = false;
    this.isForbidden = false;
    this.losses = [];
    this.failures = 0;
  }

  listen(told) {
    this.listeners.add(told);
    return () => this.listeners.delete(told);
  }

  /** Takes an event in; gives how many connections were begun and lost since the one before. Pure but for what it keeps. */
  take(type, object, at) {
    const id = `${object.metadata.namespace}/${object.metadata.name}`;
    const known = this.endpoints.get(id);
    if (type === "DELETED") {
      this.endpoints.delete(id);
      return { object, begun: 0, lost: 0, at };
    }
    // A pod that is back in the rotation is counted from nothing.
    const before = known && known.object.connections <= object.connections ? known.object : { connections: 0, lost: 0 };
    const isNews = Boolean(known) || this.isWhole;
    const begun = isNews ? object.connections - before.connections : 0;
    const lost = isNews ? Math.max(0, object.lost - before.lost) : 0;
    const second = Math.floor(at / 1000);
    const rates = (known?.rates ?? []).filter((r) => r.second > second - SECONDS);
    if (begun) {
      if (rates.at(-1)?.second === second) rates[rates.length - 1] = { second, n: rates.at(-1).n + begun };
      else rates.push({ second, n: begun });
    }
    this.endpoints.set(id, { object, rates });
    if (lost) this.losses = [...this.losses.filter((l) => l.at > at - SECONDS * 1000), { pod: object.podUID, n: lost, at }];
    return { object, begun, lost, at };
  }

  /** How many connections to a pod were lost since a moment. */
  lostSince(pod, moment) {
    return this.losses.filter((l) => l.pod === pod && l.at >= moment).reduce((sum, l) => sum + l.n, 0);
  }

  all() {
    return [...this.endpoints.values()];
  }

  follow() {
    const ws = socket(`${PATH}?${QUERY}`);
    let wasOpen = false;
    this.isWhole = false;
    ws.onopen = () => (wasOpen = true);
    ws.onmessage = ({ data }) => {
      const { type, object } = JSON.parse(data);
      this.failures = 0;
      if (type === "BOOKMARK") this.isWhole = true;
      else {
        const news = this.take(type, object, Date.now());
        for (const told of this.listeners) told(news);
      }
    };
    ws.onclose = () => this.again(wasOpen);
  }

  async again(wasOpen) {
    if (!wasOpen) {
      try {
        await getJson(`${PATH}?limit=1`);
      } catch (err) {
        // Who may not see it has a picture without dots.
        if (err instanceof Refused && [401, 403, 404].includes(err.code)) return (this.isForbidden = true);
      }
    }
    setTimeout(() => this.follow(), PAUSES_MS[Math.min(this.failures++, PAUSES_MS.length - 1)]);
  }
}

/** Connections a second, over the last seconds that are over. */
export function rate({ rates }, now, seconds = 3) {
  const last = Math.floor(now / 1000) - 1;
  return rates.filter((r) => r.second <= last && r.second > last - seconds).reduce((sum, r) => sum + r.n, 0) / seconds;
}

/** The line of a plot of a minute, in a box of this size. */
export function plot({ rates }, now, width, height, most) {
  const last = Math.floor(now / 1000) - 1;
  const by = new Map(rates.map((r) => [r.second, r.n]));
  const y = (n) => Math.round((height - 1 - ((height - 2) * n) / Math.max(1, most)) * 10) / 10;
  const points = Array.from({ length: SECONDS }, (_, i) => `${Math.round((i * width * 10) / (SECONDS - 1)) / 10},${y(by.get(last - SECONDS + 1 + i) ?? 0)}`);
  return `M${points.join("L")}`;
}
