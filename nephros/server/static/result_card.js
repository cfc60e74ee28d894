// Draws one result. File names come from anyone, so all text is set as text, never as markup.

export const percent = (fraction, digits = 1) => `${(100 * fraction).toFixed(digits)}%`;
const probabilityText = (p) => (p < 0.001 ? "<0.1%" : percent(p));

export function createElement(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export function displayName(result) {
  return result.file + (result.split ? `, ${result.split}` : "") + (result.hasSeveralCells ? `, ${result.index}` : "");
}

export function resultCard(result, classNames, coverage, referenceCells, trueClass) {
  if (result.error !== null) {
    return createElement("article", { className: "card failed" },
      createElement("div", {},
        createElement("p", { className: "filename", textContent: displayName(result) }),
        createElement("p", { className: "error-message", textContent: result.error })));
  }
  const body = createElement("div", {},
    createElement("p", { className: "filename", textContent: displayName(result) + (trueClass ? ` · true class: ${trueClass}` : "") }),
    createElement("h3", {}, `${result.class_name} `, createElement("span", { textContent: probabilityText(result.probabilities[result.label]) })));
  if (result.is_ood) {
    body.append(createElement("p", { className: "ood-warning" },
      createElement("b", { textContent: "Out of distribution: " }), `${(result.ood_reasons ?? []).join("; ")}. The prediction may be meaningless.`));
  }
  body.append(probabilityTable(result, classNames, coverage));
  const article = createElement("article", { className: "card" }, previewImage(result), body);
  article.append(similarCellList(result, referenceCells));
  return article;
}

function previewImage(result) {
  const frame = createElement("div", { className: "preview" });
  if (result.preview) frame.append(createElement("img", { src: result.preview, alt: `The cell ${displayName(result)} as the model sees it` }));
  const notes = [...(result.notes ?? [])];
  if (result.saliency_map) {
    frame.append(saliencyCanvas(result.saliency_map, result.class_name));
    notes.unshift(`Orange: evidence for the predicted class (${result.saliency_map.method}).`);
  }
  if (!result.preview) notes.push(result.detailsError ?? "No preview: only the first cells of an npz file, and those under Show more, have one.");
  return createElement("div", {}, frame, ...notes.map((line) => createElement("p", { className: "note", textContent: line })));
}

function saliencyCanvas(map, className) {
  const height = map.values.length, width = map.values[0].length;
  const canvas = createElement("canvas", { width, height });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Saliency map: evidence for ${className}`);
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  map.values.flat().forEach((value, i) => image.data.set([255, 140, 40, Math.round(140 * value ** 1.5)], 4 * i));
  context.putImageData(image, 0, 0);
  return canvas;
}

function probabilityTable(result, classNames, coverage) {
  const predictionSet = new Set(result.prediction_set);
  const order = classNames.map((_, c) => c).sort((a, b) => result.probabilities[b] - result.probabilities[a]);
  const body = createElement("tbody");
  for (const c of order) {
    const p = result.probabilities[c], bar = createElement("i");
    bar.style.width = `${100 * p}%`;
    const heading = createElement("th", { scope: "row", textContent: classNames[c] });
    if (predictionSet.has(c)) heading.append(createElement("span", { className: "visually-hidden", textContent: ", in the prediction set" }));
    body.append(createElement("tr", { className: predictionSet.has(c) ? "in-set" : "" }, heading,
      createElement("td", {}, createElement("span", { className: "bar-track" }, bar)),
      createElement("td", { className: "value", textContent: probabilityText(p) })));
  }
  const nClasses = predictionSet.size === 1 ? "1 class" : `${predictionSet.size} classes`;
  const caption = createElement("caption", { textContent: `Prediction set at ${percent(coverage, 0)} coverage: ${nClasses} (bold)` });
  return createElement("table", { className: "probabilities" }, caption, body);
}

function similarCellList(result, referenceCells) {
  const box = createElement("div", { className: "similar-cells" });
  if (!result.similar_cells?.length) return box;
  const list = createElement("ul");
  for (const cell of result.similar_cells) {
    list.append(createElement("li", { className: cell.label === result.label ? "same-class" : "" },
      createElement("img", { src: cell.preview, alt: "" }), createElement("span", { textContent: cell.class_name }), ` ${cell.similarity.toFixed(2)}`));
  }
  const kind = referenceCells.trained_on ? "training cells" : "reference cells";
  box.append(createElement("h4", { textContent: `Most similar ${kind}, by the model's features (1 = identical)` }), list);
  return box;
}
