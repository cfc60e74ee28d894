// Uploads files in small groups, one group after another, and shows each result as it arrives.
import { postFiles, routeUrl, streamResults } from "./api_client.js";
import { droppedFiles } from "./dropped_files.js";
import { createElement, percent, resultCard } from "./result_card.js";

const MAX_GROUP_FILES = 24, MAX_GROUP_BYTES = 8e6, CARDS_PER_PAGE = 60, N_NEIGHBORS = 6, SUMMARY_INTERVAL_MS = 500;
const STOPPED = "Stopped before it was classified.";
const byId = (id) => document.getElementById(id);
const formatCount = (n) => n.toLocaleString("en");
const state = {
  serverInfo: null, coverage: 0.9, trueClasses: new Map(),
  queue: [], nTotal: 0, nDone: 0, abortController: null,
  results: [], nShown: 0, detailsController: null, scrollToResult: false, lastSummaryTime: -1000,
};

async function init() {
  state.serverInfo = await (await fetch(routeUrl("version"))).json();
  const { version, model, reference_cells: reference, class_names: classNames } = state.serverInfo;
  const subset = model.training_subset && `, ${model.training_subset}`;
  byId("model").textContent = `nephros ${version} · recipe ${model.recipe}, trained on ${model.training_data}${subset}`;
  const accuracy = model.test_accuracy === null ? "" : ` Test accuracy on ${model.training_data}: ${percent(model.test_accuracy)} (${model.test_setup})${model.training_subset && `, trained on a ${model.training_subset}`}.`;
  byId("model-info").textContent = `The model distinguishes ${classNames.length} classes.${accuracy} ${model.limitations.join(" ").replaceAll("`", "")}`;
  const referenceInfo = reference
    ? `Similar cells come from ${formatCount(reference.n_cells)} ${reference.trained_on ? "training" : "reference"} cells of ${reference.title}.`
    : "To see similar cells, start the server with reference data, for example: nephros serve --reference-data tissuemnist.";
  if (model.input.white_level) {
    byId("white-level").placeholder = model.input.white_level;
    byId("white-level-info").textContent = "Without a value, the level of the training images is used.";
  }
  byId("reference-info").textContent = referenceInfo + (model.detects_ood ? "" : " This model can't detect out-of-distribution images.");
  await showSamples();
  byId("drop-zone").dataset.ready = "yes";
}

async function showSamples() {
  const samples = await (await fetch(routeUrl("samples"))).json();
  const groups = groupBySource(samples);
  for (const [source, members] of groups) {
    const strip = createElement("ul", { className: "sample-strip" });
    for (const sample of members) {
      const name = sample.synthetic ? "Synthetic cell" : sample.true_class;
      const button = createElement("button", { type: "button" }, createElement("img", { src: sample.preview, alt: sample.synthetic ? name : `Cell of class ${name}` }));
      if (!sample.synthetic) button.append(createElement("small", { textContent: name }));
      button.addEventListener("click", () => predictSample(sample));
      strip.append(createElement("li", {}, button));
    }
    const title = members[0].synthetic ? "Synthetic nuclei, drawn by nephros: predictions for them mean little" : `Labeled ${source}`;
    byId("sample-groups").append(createElement("div", { className: "sample-group" }, createElement("h3", { textContent: title }), strip));
  }
  byId("samples").hidden = samples.length === 0;
}

function groupBySource(samples) {
  const groups = new Map();
  for (const sample of samples) {
    if (!groups.has(sample.source)) groups.set(sample.source, []);
    groups.get(sample.source).push(sample);
  }
  return groups;
}

async function predictSample(sample) {
  const blob = await (await fetch(routeUrl(`samples/${sample.name}`))).blob();
  if (sample.true_class) state.trueClasses.set(sample.name, sample.true_class);
  state.scrollToResult = true;
  enqueue([new File([blob], sample.name, { type: "image/png" })]);
}

function enqueue(files) {
  state.queue.push(...files);
  state.nTotal += files.length;
  if (files.length && !state.abortController) processQueue();
}

async function processQueue() {
  const { signal } = (state.abortController = new AbortController());
  byId("progress").hidden = byId("results").hidden = false;
  byId("progress").scrollIntoView({ block: "start" });
  state.coverage = +byId("coverage").value;
  updateProgress();
  while (state.queue.length && !signal.aborted) {
    const group = nextGroup();
    try {
      if (isNpz(group[0])) await predictNpz(group[0], signal);
      else if (isTooLarge(group[0], "predict")) addErrors(group, `${group[0].name} exceeds the server's upload limit.`);
      else await predictFiles(group, signal);
    } catch (error) {
      if (signal === state.abortController?.signal) addErrors(group, signal.aborted ? STOPPED : error.message);
    }
    if (signal !== state.abortController?.signal) return; // cleared: drop these results; another run may have started
    state.nDone += group.length;
    updateProgress();
  }
  addErrors(state.queue.splice(0), STOPPED);
  finish();
  updateSummary();
  if (state.scrollToResult) byId("cards").lastElementChild?.scrollIntoView({ block: "center" });
  state.scrollToResult = false;
}

function finish() {
  state.abortController = null;
  state.nTotal = state.nDone = 0;
  byId("progress").hidden = true;
}

function clear() {
  state.queue = [];
  state.results = [];
  state.nShown = 0;
  state.scrollToResult = false;
  state.abortController?.abort();
  state.detailsController?.abort();
  state.detailsController = null;
  finish();
  byId("cards").replaceChildren();
  updateSummary();
  byId("files").focus();
}

const isNpz = (file) => file.name.toLowerCase().endsWith(".npz");
const isTooLarge = (file, route) => file.size > state.serverInfo.limits[route].max_upload_bytes - 4096;

function nextGroup() {
  const group = [state.queue.shift()];
  let nBytes = group[0].size;
  while (!isNpz(group[0]) && state.queue.length && group.length < MAX_GROUP_FILES && !isNpz(state.queue[0]) && (nBytes += state.queue[0].size) < MAX_GROUP_BYTES) {
    group.push(state.queue.shift());
  }
  return group;
}

function queryParams() {
  const params = new URLSearchParams({ coverage: state.coverage, details: true, explain: true, n_neighbors: N_NEIGHBORS });
  if (byId("white-level").value) params.set("white_level", byId("white-level").value);
  if (byId("channel").value) params.set("channel", byId("channel").value);
  return params;
}

async function predictFiles(group, signal) {
  let response;
  try {
    response = await postFiles(`predict?${queryParams()}`, group, signal);
  } catch (error) {
    if (!error.notSent || group.length === 1) throw error;
    // One unreadable file fails the upload of its whole group, so upload the files one by one.
    for (const file of group) await predictFiles([file], signal).catch((fileError) => { signal.throwIfAborted(); addErrors([file], fileError.message); });
    return;
  }
  const { results } = await response.json();
  signal.throwIfAborted();
  addResults(results);
}

async function predictNpz(file, signal) {
  if (isTooLarge(file, "batch")) throw new Error(`${file.name} exceeds the server's upload limit: use nephros predict instead.`);
  const source = { file, params: queryParams() };
  let nRows = 0;
  await streamResults(`${source.params}&detail_limit=${CARDS_PER_PAGE}`, file, signal, (results) => {
    addResults(results, source);
    nRows += results.length;
    updateProgress(`${file.name}: ${formatCount(nRows)} cells`);
  });
}

function addResults(results, source) {
  const multiCellFiles = new Set(results.filter((result) => result.index > 0).map((result) => result.file));
  for (const result of results) {
    const hasSeveralCells = multiCellFiles.has(result.file) || isNpz({ name: result.file });
    state.results.push({ ...result, hasSeveralCells, coverage: state.coverage, source });
  }
  if (state.nShown < CARDS_PER_PAGE) showCards(CARDS_PER_PAGE - state.nShown);
  if (performance.now() - state.lastSummaryTime > SUMMARY_INTERVAL_MS) updateSummary(); // counts all results; processQueue() ends with a final update
}

function addErrors(files, error) {
  addResults(files.map((file) => ({ file: file.name, index: 0, label: null, class_name: null, probabilities: null, prediction_set: null, is_ood: null, error })));
}

// Cells of an npz file beyond the first page have no preview yet: upload their file again, once per run of consecutive rows.
async function fetchDetails(results, signal) {
  const missing = results.filter((result) => result.source && result.error === null && !result.preview);
  for (let i = 0, next; i < missing.length; i = next) {
    const { row: firstRow, source } = missing[i];
    for (next = i + 1; next < missing.length && missing[next].source === source && missing[next].row === firstRow + next - i; next++);
    const batch = missing.slice(i, next);
    try {
      await streamResults(`${source.params}&offset=${firstRow}&limit=${batch.length}`, source.file, signal, (rows) => {
        for (const { row, preview, saliency_map, similar_cells } of rows) Object.assign(batch[row - firstRow], { preview, saliency_map, similar_cells });
      });
    } catch (error) {
      for (const result of batch) result.detailsError = `The preview is not available. ${error.message}`;
    }
  }
}

async function showMore() {
  if (state.detailsController) return;
  const { signal } = (state.detailsController = new AbortController());
  byId("show-more").textContent = "Loading previews ...";
  await fetchDetails(state.results.slice(state.nShown, state.nShown + CARDS_PER_PAGE), signal);
  if (signal.aborted) return;
  state.detailsController = null;
  showCards(CARDS_PER_PAGE);
  updateSummary();
}

function showCards(limit) {
  const { class_names: classNames, reference_cells: referenceCells } = state.serverInfo;
  const next = state.results.slice(state.nShown, state.nShown + limit);
  byId("cards").append(...next.map((result) => resultCard(result, classNames, result.coverage, referenceCells, state.trueClasses.get(result.file))));
  state.nShown += next.length;
}

function updateProgress(message) {
  byId("progress-bar").max = Math.max(1, state.nTotal);
  byId("progress-bar").value = state.nDone;
  byId("progress-text").textContent = message ?? `${formatCount(state.nDone)} of ${formatCount(state.nTotal)} files`;
}

function updateSummary() {
  state.lastSummaryTime = performance.now();
  const classified = state.results.filter((result) => result.error === null), nFailed = state.results.length - classified.length;
  const nOod = classified.filter((result) => result.is_ood).length;
  const parts = [`${formatCount(classified.length)} ${classified.length === 1 ? "cell" : "cells"} classified`];
  if (nOod) parts.push(`${formatCount(nOod)} out of distribution`);
  if (nFailed) parts.push(`${formatCount(nFailed)} failed`);
  byId("summary").textContent = `${parts.join(", ")}.`;
  const counts = state.serverInfo.class_names.map((name, c) => [name, classified.filter((result) => result.label === c).length]).filter(([, n]) => n);
  counts.sort((a, b) => b[1] - a[1]);
  byId("class-counts").replaceChildren(...(classified.length < 2 ? [] : counts.map(([name, n]) => createElement("li", {}, createElement("b", { textContent: formatCount(n) }), ` ${name}`))));
  const nLeft = state.results.length - state.nShown;
  byId("show-more").hidden = nLeft <= 0;
  if (!state.detailsController) byId("show-more").textContent = `Show ${Math.min(nLeft, CARDS_PER_PAGE)} more of ${formatCount(nLeft)}`;
  byId("results").hidden = state.results.length === 0;
}

function toCsv() {
  const classNames = state.serverInfo.class_names;
  const lines = [["file", "index", "split", "label", "class_name", ...classNames.map((_, c) => `p_${c}`), "prediction_set", "is_ood", "ood_reasons", "error"]];
  for (const r of state.results) {
    lines.push([r.file, r.index, r.split, r.label, r.class_name, ...classNames.map((_, c) => r.probabilities?.[c]), r.prediction_set?.join(" "), r.is_ood, r.ood_reasons?.join("; "), r.error]);
  }
  return lines.map((line) => line.map(csvField).join(",")).join("\n") + "\n";
}

function csvField(value) {
  if (value === null || value === undefined) return "";
  let text = String(value);
  // As nephros/escaping.py does it; otherwise a spreadsheet would run the text as a formula.
  if (typeof value === "string") text = text.replace(/(^|[;\t\r\n])(\s*'*[=+\-@\uff1d\uff0b\uff0d\uff20])/g, "$1'$2");
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

byId("files").addEventListener("change", (event) => { enqueue([...event.target.files]); event.target.value = ""; });
for (const name of ["dragenter", "dragover"]) document.addEventListener(name, (event) => { event.preventDefault(); byId("drop-zone").classList.add("drag-over"); });
for (const name of ["dragleave", "drop"]) document.addEventListener(name, () => byId("drop-zone").classList.remove("drag-over"));
document.addEventListener("drop", async (event) => { event.preventDefault(); enqueue(await droppedFiles(event.dataTransfer)); });
byId("stop").addEventListener("click", () => state.abortController?.abort());
byId("show-more").addEventListener("click", showMore);
byId("show-saliency").addEventListener("change", (event) => byId("cards").classList.toggle("hide-saliency", !event.target.checked));
byId("clear").addEventListener("click", clear);
byId("download-csv").addEventListener("click", () => {
  const link = createElement("a", { href: URL.createObjectURL(new Blob([toCsv()], { type: "text/csv" })), download: "nephros.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
init().catch(() => { byId("model").textContent = "The server can't be reached: reload the page."; });
