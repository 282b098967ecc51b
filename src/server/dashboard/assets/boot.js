// In the page itself (the server writes it there), since nothing begins again what never came.
// Begins again when a part of the page did not come. Browsers drop the requests that are under way when the machine's network changes,
// and every container that starts or ends is such a change (net::ERR_NETWORK_CHANGED).
(() => {
  const COUNT = "skiff-boots";
  const BOOTS_MAX = 20;
  const PAUSE_MS = 250;
  let isOver = false;
  const read = () => {
    try {
      return Number(sessionStorage.getItem(COUNT) ?? 0);
    } catch {
      return BOOTS_MAX;
    }
  };
  addEventListener(
    "error",
    ({ target }) => {
      if (isOver || !["SCRIPT", "LINK"].includes(target.tagName) || read() >= BOOTS_MAX) return;
      isOver = true;
      sessionStorage.setItem(COUNT, read() + 1);
      setTimeout(() => location.reload(), PAUSE_MS);
    },
    true,
  );
})();
