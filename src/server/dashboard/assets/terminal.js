// What a terminal shows, in a document of its own: xterm writes style elements, which the page's policy forbids, and this document's does
// not. It may do nothing else: the page around it (`shell.js`) has the connection, and reaches this as `window.terminal`.

import { FitAddon } from "./vendor/xterm-addon-fit.js";
import { Terminal } from "./vendor/xterm.js";

/** Colours of the terminal, as the page names them. */
const COLOURS = {
  background: "--card", foreground: "--ink", cursor: "--accent", cursorAccent: "--card", selectionBackground: "--edge",
  black: "--soft", red: "--failing", green: "--ready", yellow: "--starting", blue: "--c0", magenta: "--c2", cyan: "--c5", white: "--ink",
  brightBlack: "--soft", brightRed: "--failing", brightGreen: "--ready", brightYellow: "--starting", brightBlue: "--c0",
  brightMagenta: "--c2", brightCyan: "--c5", brightWhite: "--ink",
};
const NOTE = ["\x1b[3m", "\x1b[0m"];

const page = parent.document.documentElement;
const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
const terminal = new Terminal({
  cursorBlink: !isStill,
  fontFamily: 'ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace',
  fontSize: 12.5,
  screenReaderMode: true,
  scrollback: 5000,
});
const fit = new FitAddon();
const encoder = new TextEncoder();
let heard = null;

function paint() {
  const given = getComputedStyle(page);
  terminal.options.theme = Object.fromEntries(Object.entries(COLOURS).map(([name, variable]) => [name, given.getPropertyValue(variable).trim()]));
  document.body.style.background = terminal.options.theme.background;
  document.documentElement.style.colorScheme = given.colorScheme;
}

terminal.loadAddon(fit);
terminal.open(document.body);
terminal.onData((text) => heard?.input(encoder.encode(text)));
terminal.onBinary((text) => heard?.input(Uint8Array.from(text, (char) => char.charCodeAt(0))));
terminal.onResize((size) => heard?.resize(size));
// Every key is the program's, Tab too: this one leads out.
terminal.attachCustomKeyEventHandler((event) => {
  const isWayOut = event.key === "Escape" && event.shiftKey;
  if (isWayOut && event.type === "keydown") heard?.leave();
  return !isWayOut;
});
new ResizeObserver(() => fit.fit()).observe(document.documentElement);
new MutationObserver(paint).observe(page, { attributes: true, attributeFilter: ["data-theme"] });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
paint();
fit.fit();

window.terminal = {
  /** Begins anew: what is typed, a new size and the way out go to `listener` from now on. Gives the size. */
  begin(listener) {
    heard = listener;
    terminal.reset();
    fit.fit();
    return { cols: terminal.cols, rows: terminal.rows };
  },
  end() {
    heard = null;
  },
  write: (bytes) => terminal.write(bytes),
  /** Says something that is not of the program. */
  note: (text) => terminal.write(`\r\n${NOTE.join(text.replaceAll("\n", "\r\n"))}\r\n`),
  focus: () => terminal.focus(),
};
