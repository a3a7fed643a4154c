// "Recently viewed" on the pages of records: remembers in this browser what was looked at, and shows it again.
// Why here: it is personalisation that never leaves the browser.
// Must not: send anything, or keep a record once it is switched off.

const NAME = "recently-viewed";
const KEPT = 8;
const box = document.getElementById("recent");
const store = () => window.localStorage;

const quietly = (act) => {
  try {
    return act();
  } catch {
    return null; // storage is switched off or full: then nothing is remembered
  }
};

/** [{sku, title}], the newest first; what another hand wrote there is left out. */
function remembered() {
  const found = quietly(() => JSON.parse(store().getItem(NAME)));
  return (Array.isArray(found) ? found : [])
    .filter((one) => typeof one?.sku === "string" && typeof one.title === "string")
    .filter(({ sku }) => /^[\w.-]{1,64}$/.test(sku))
    .slice(0, KEPT);
}

function picture({ sku, title }) {
  const link = document.createElement("a");
  link.href = `/records/${sku}`;
  const image = document.createElement("img");
  Object.assign(image, { src: `/covers/${sku}.svg`, alt: "", width: 96, height: 96 });
  const name = document.createElement("span");
  name.dir = "auto";
  name.textContent = title.slice(0, 200);
  link.append(image, name);
  const item = document.createElement("li");
  item.append(link);
  return item;
}

if (box.dataset.remember === "yes") {
  const { sku, title } = box.dataset;
  if (sku) {
    const others = remembered().filter((one) => one.sku !== sku);
    quietly(() => store().setItem(NAME, JSON.stringify([{ sku, title }, ...others].slice(0, KEPT))));
    box.querySelector("ul").append(...others.map(picture));
  }
} else {
  quietly(() => store().removeItem(NAME));
}
