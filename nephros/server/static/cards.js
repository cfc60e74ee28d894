// Draws one result. All text goes in as text, never as markup: names of files come from anyone.

const percent = (p) => (p < 0.001 ? "<0.1 %" : `${(100 * p).toFixed(1)} %`);

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export function nameOf(result) {
  return result.file + (result.split ? `, ${result.split}` : "") + (result.many ? `, ${result.index}` : "");
}

export function card(result, names, coverage, known, truth) {
  if (result.error !== null) {
    return make("article", { className: "card bad" },
      make("div", {}, make("p", { className: "where", textContent: nameOf(result) }), make("p", { className: "trouble", textContent: result.error })));
  }
  const middle = make("div", {},
    make("p", { className: "where", textContent: nameOf(result) + (truth ? ` · in truth: ${truth}` : "") }),
    make("h3", {}, `${result.class_name} `, make("span", { textContent: percent(result.probabilities[result.label]) })));
  if (result.unfamiliar) {
    middle.append(make("p", { className: "odd" }, make("b", { textContent: "Unfamiliar: " }), `${result.reason ?? ""}. The answer may mean nothing.`));
  }
  middle.append(bars(result, names, coverage));
  const article = make("article", { className: "card" }, picture(result), middle);
  article.append(near(result, known));
  return article;
}

function picture(result) {
  const box = make("div", { className: "seen" });
  if (result.picture) box.append(make("img", { src: result.picture, alt: `The cell ${nameOf(result)} as the network sees it` }));
  const words = [...(result.notes ?? [])];
  if (result.heat_map) {
    box.append(heat(result.heat_map, result.class_name));
    words.unshift(`Orange: what speaks for the class (${result.heat_map.method}).`);
  }
  if (!result.picture) words.push(result.bare ?? "It has no picture: of such a file only the first cells, and those under Show more, get one.");
  return make("div", {}, box, ...words.map((line) => make("p", { className: "how", textContent: line })));
}

function heat(map, name) {
  const height = map.values.length, width = map.values[0].length;
  const canvas = make("canvas", { width, height });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Heat map: where the picture speaks for ${name}`);
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  map.values.flat().forEach((value, i) => image.data.set([255, 140, 40, Math.round(140 * value ** 1.5)], 4 * i));
  context.putImageData(image, 0, 0);
  return canvas;
}

function bars(result, names, coverage) {
  const inSet = new Set(result.prediction_set);
  const order = names.map((_, c) => c).sort((a, b) => result.probabilities[b] - result.probabilities[a]);
  const body = make("tbody");
  for (const c of order) {
    const p = result.probabilities[c], bar = make("i");
    bar.style.width = `${100 * p}%`;
    const head = make("th", { scope: "row", textContent: names[c] });
    if (inSet.has(c)) head.append(make("span", { className: "out", textContent: ", in the prediction set" }));
    body.append(make("tr", { className: inSet.has(c) ? "in" : "" }, head,
      make("td", {}, make("span", { className: "track" }, bar)), make("td", { className: "n", textContent: percent(p) })));
  }
  const words = inSet.size === 1 ? "1 class is" : `${inSet.size} classes are`;
  const caption = make("caption", { textContent: `${words} in the prediction set (bold) at ${Math.round(100 * coverage)} % coverage` });
  return make("table", { className: "bars" }, caption, body);
}

function near(result, known) {
  const box = make("div", { className: "near" });
  if (!result.similar?.length) return box;
  const list = make("ul");
  for (const cell of result.similar) {
    list.append(make("li", { className: cell.label === result.label ? "same" : "" },
      make("img", { src: cell.picture, alt: "" }), make("span", { textContent: cell.class_name }), ` ${cell.similarity.toFixed(2)}`));
  }
  const what = known.trained_on ? "Training cells" : "Known cells";
  box.append(make("h4", { textContent: `${what} that the network sees as most similar (1 = the same)` }), list);
  return box;
}
