// The same as the picture, as a table.

import { html } from "./vendor/preact.js";
import { age } from "./model.js";
import { Dot } from "./ui.js";

export function Table({ model, hrefOf, now, selected }) {
  const reached = (w) => {
    const services = model.services.filter((s) => s.to.includes(w.id));
    const doors = model.entries.filter((e) => services.some((s) => e.to.includes(s.id)));
    return { services, doors };
  };
  const list = (items) => items.map((one, i) => html`${i ? ", " : ""}<a key=${one.id} href=${hrefOf(one)}>${one.name}</a>`);
  return html`<div class="tables"><table>
    <caption>Workloads and their pods</caption>
    <thead><tr><th scope="col">Name</th><th scope="col">Kind</th><th scope="col">Ready</th><th scope="col">State</th><th scope="col">Reached by</th><th scope="col">Restarts</th><th scope="col">Age</th></tr></thead>
    <tbody>
      ${model.workloads.map((w) => {
        const { services, doors } = reached(w);
        return html`<tr key=${w.id} class=${`workload ${selected === w.id ? "selected" : ""}`}>
            <th scope="row"><a href=${hrefOf(w)}>${w.name}</a> <span class="small">${w.ns}</span></th>
            <td>${w.kind}</td>
            <td class="number">${w.ready} of ${w.wanted}</td>
            <td><${Dot} is=${w.state.is} /> <span class=${`is-${w.state.is}`}>${w.state.text}</span></td>
            <td>${list([...doors, ...services])}</td>
            <td class="number">${w.pods.reduce((sum, p) => sum + p.restarts, 0) || ""}</td>
            <td class="number">${age(w.object.metadata.creationTimestamp, now)}</td>
          </tr>
          ${w.pods.map((p) => html`<tr key=${p.object.metadata.uid} class=${`pod ${selected === p.id ? "selected" : ""}`}>
            <th scope="row"><a class="mono" href=${hrefOf(p)}>${p.name}</a></th>
            <td>Pod</td><td></td>
            <td><${Dot} is=${p.state.is} /> <span class=${`is-${p.state.is}`}>${p.state.text}</span></td>
            <td class="mono">${p.object.status?.podIP ?? ""}</td>
            <td class="number">${p.restarts || ""}</td>
            <td class="number">${age(p.object.metadata.creationTimestamp, now)}</td>
          </tr>`)}`;
      })}
    </tbody>
  </table></div>`;
}
