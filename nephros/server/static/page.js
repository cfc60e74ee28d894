// Sends files in small groups, one group after another, and shows each answer as it comes.
import { card, make } from "./cards.js";
import { dropped } from "./dropped.js";
import { send, sendForLines } from "./sending.js";

const GROUP_FILES = 24, GROUP_BYTES = 8e6, SHOWN = 60, SIMILAR = 6;
const STOPPED = "Stopped before it was answered.";
const at = (id) => document.getElementById(id);
const state = { about: null, results: [], shown: 0, queue: [], total: 0, done: 0, follow: false, told: -1000, stop: null, asking: null, truths: new Map(), coverage: 0.9 };

async function start() {
  state.about = await (await fetch("/version")).json();
  const { version, model, known, class_names } = state.about;
  at("model").textContent = `nephros ${version} · recipe ${model.recipe}, learnt from ${model.data}`;
  const right = model.test_accuracy === null ? "" : ` It was right for ${(100 * model.test_accuracy).toFixed(1)} % of the test cells of that data (${model.test_of}).`;
  at("about").textContent = `The model tells ${class_names.length} classes apart.${right} ${model.limits.join(" ").replaceAll("`", "")}`;
  const cells = known ? `${known.cells.toLocaleString("en")} ${known.trained_on ? "training cells" : "known cells"} of ${known.title} are compared with each answer.`
    : "To see similar known cells, start the server with --known and a data set, such as: nephros serve --known tissuemnist.";
  at("legend").textContent = `${cells}${model.finds_unfamiliar ? "" : " This model can't tell which pictures are unfamiliar."}`;
  await showSamples();
  at("drop").dataset.ready = "yes";
}

async function showSamples() {
  const samples = await (await fetch("/samples")).json();
  const groups = new Map();
  for (const sample of samples) {
    if (!groups.has(sample.source)) groups.set(sample.source, []);
    groups.get(sample.source).push(sample);
  }
  for (const [source, members] of groups) {
    const strip = make("ul", { className: "strip" });
    for (const sample of members) {
      const words = sample.made_up ? "Made-up cell" : sample.truth;
      const button = make("button", { type: "button" }, make("img", { src: sample.picture, alt: sample.made_up ? words : `Cell of ${words}` }));
      if (!sample.made_up) button.append(make("small", { textContent: words }));
      button.addEventListener("click", () => take(sample));
      strip.append(make("li", {}, button));
    }
    const title = members[0].made_up ? "Made-up nuclei, drawn by nephros: no real cells, so the answers mean little" : `With their true class: ${source}`;
    at("sample-groups").append(make("div", { className: "group" }, make("h3", { textContent: title }), strip));
  }
  at("samples").hidden = samples.length === 0;
}

async function take(sample) {
  const blob = await (await fetch(`/samples/${sample.name}`)).blob();
  if (sample.truth) state.truths.set(sample.name, sample.truth);
  state.follow = true;
  add([new File([blob], sample.name, { type: "image/png" })]);
}

function add(files) {
  state.queue.push(...files);
  state.total += files.length;
  if (files.length && !state.stop) work();
}

async function work() {
  const { signal } = (state.stop = new AbortController());
  at("work").hidden = at("results").hidden = false;
  at("work").scrollIntoView({ block: "start" });
  state.coverage = +at("coverage").value;
  tick();
  while (state.queue.length && !signal.aborted) {
    const group = nextGroup();
    try {
      if (isStack(group[0])) await answerStack(group[0], signal);
      else if (tooLarge(group[0], "predict")) fail(group, `${group[0].name} is larger than this server takes.`);
      else await answerGroup(group, signal);
    } catch (error) {
      if (signal === state.stop?.signal) fail(group, signal.aborted ? STOPPED : error.message);
    }
    if (signal !== state.stop?.signal) return; // cleared: nothing more is said of it, and another run may be at work
    state.done += group.length;
    tick();
  }
  fail(state.queue.splice(0), STOPPED);
  end();
  summarise();
  if (state.follow) at("cards").lastElementChild?.scrollIntoView({ block: "center" });
  state.follow = false;
}

function end() {
  state.stop = null;
  state.total = state.done = 0;
  at("work").hidden = true;
}

function clear() {
  state.queue = [];
  state.results = [];
  state.shown = 0;
  state.follow = false;
  state.stop?.abort();
  state.asking?.abort();
  state.asking = null;
  end();
  at("cards").replaceChildren();
  summarise();
  at("files").focus();
}

const isStack = (file) => file.name.toLowerCase().endsWith(".npz");
const tooLarge = (file, route) => file.size > state.about.limits[route].upload_bytes - 4096;

function nextGroup() {
  const group = [state.queue.shift()];
  let bytes = group[0].size;
  while (!isStack(group[0]) && state.queue.length && group.length < GROUP_FILES && !isStack(state.queue[0]) && (bytes += state.queue[0].size) < GROUP_BYTES) {
    group.push(state.queue.shift());
  }
  return group;
}

function query() {
  const wishes = new URLSearchParams({ coverage: state.coverage, details: true, explain: true, similar: SIMILAR });
  if (at("white").value) wishes.set("white", at("white").value);
  return wishes;
}

async function answerGroup(group, signal) {
  let answer;
  try {
    answer = await send(`/predict?${query()}`, group, signal);
  } catch (error) {
    if (!error.unsent || group.length === 1) throw error;
    for (const file of group) await answerGroup([file], signal).catch((why) => { signal.throwIfAborted(); fail([file], why.message); });
    return; // one file that can't be read any more would else keep the others' answers
  }
  const { results } = await answer.json();
  signal.throwIfAborted();
  gather(results);
}

async function answerStack(file, signal) {
  if (tooLarge(file, "batch")) throw new Error(`${file.name} is larger than this server takes: use nephros predict for it.`);
  const wishes = query(), stack = { file, wishes };
  let rows = 0;
  await sendForLines(`${wishes}&first=${SHOWN}`, file, signal, (found) => {
    gather(found, stack);
    rows += found.length;
    tick(`${file.name}: ${rows.toLocaleString("en")} cells`);
  });
}

function gather(results, stack) {
  const several = new Set(results.filter((result) => result.index > 0).map((result) => result.file));
  for (const result of results) state.results.push({ ...result, many: several.has(result.file) || isStack({ name: result.file }), coverage: state.coverage, stack });
  if (state.shown < SHOWN) showMore(SHOWN - state.shown);
  if (performance.now() - state.told > 500) summarise(); // it counts all results; work() ends with one more
}

function fail(files, error) {
  gather(files.map((file) => ({ file: file.name, index: 0, label: null, class_name: null, probabilities: null, prediction_set: null, unfamiliar: null, error })));
}

// Cells of an npz past its first have no pictures yet: their file is sent again, for each run of neighbouring rows.
async function askForPictures(results, signal) {
  const bare = results.filter((result) => result.stack && result.error === null && !result.picture);
  for (let i = 0, next; i < bare.length; i = next) {
    const { row, stack } = bare[i];
    for (next = i + 1; next < bare.length && bare[next].stack === stack && bare[next].row === row + next - i; next++);
    const asked = bare.slice(i, next);
    try {
      await sendForLines(`${stack.wishes}&start=${row}&count=${asked.length}`, stack.file, signal, (found) => {
        for (const { row: place, picture, heat_map, similar } of found) Object.assign(asked[place - row], { picture, heat_map, similar });
      });
    } catch (error) {
      for (const result of asked) result.bare = `Its picture can't be shown. ${error.message}`;
    }
  }
}

async function showMorePictures() {
  if (state.asking) return;
  const { signal } = (state.asking = new AbortController());
  at("more").textContent = "Asking for their pictures ...";
  await askForPictures(state.results.slice(state.shown, state.shown + SHOWN), signal);
  if (signal.aborted) return;
  state.asking = null;
  showMore(SHOWN);
  summarise();
}

function showMore(most) {
  const next = state.results.slice(state.shown, state.shown + most);
  at("cards").append(...next.map((result) => card(result, state.about.class_names, result.coverage, state.about.known, state.truths.get(result.file))));
  state.shown += next.length;
}

function tick(words) {
  at("bar").max = Math.max(1, state.total);
  at("bar").value = state.done;
  at("count").textContent = words ?? `${state.done.toLocaleString("en")} of ${state.total.toLocaleString("en")} files`;
}

function summarise() {
  state.told = performance.now();
  const good = state.results.filter((result) => result.error === null), bad = state.results.length - good.length;
  const odd = good.filter((result) => result.unfamiliar).length;
  const words = [`${good.length.toLocaleString("en")} ${good.length === 1 ? "cell" : "cells"} answered`];
  if (odd) words.push(`${odd.toLocaleString("en")} unfamiliar`);
  if (bad) words.push(`${bad.toLocaleString("en")} without an answer`);
  at("summary").textContent = `${words.join(", ")}.`;
  const counts = state.about.class_names.map((name, c) => [name, good.filter((result) => result.label === c).length]).filter(([, n]) => n);
  at("shares").replaceChildren(...(good.length < 2 ? [] : counts.sort((a, b) => b[1] - a[1]).map(([name, n]) => make("li", {}, make("b", { textContent: n.toLocaleString("en") }), ` ${name}`))));
  const left = state.results.length - state.shown;
  at("more").hidden = left <= 0;
  if (!state.asking) at("more").textContent = `Show ${Math.min(left, SHOWN)} more of ${left.toLocaleString("en")}`;
  at("results").hidden = state.results.length === 0;
}

function csv() {
  const names = state.about.class_names;
  const lines = [["file", "index", "split", "label", "class_name", ...names.map((_, c) => `p_${c}`), "prediction_set", "unfamiliar", "reason", "error"]];
  for (const r of state.results) {
    lines.push([r.file, r.index, r.split, r.label, r.class_name, ...names.map((_, c) => r.probabilities?.[c]), r.prediction_set?.join(" "), r.unfamiliar, r.reason, r.error]);
  }
  return lines.map((line) => line.map(cell).join(",")).join("\n") + "\n";
}

function cell(value) {
  if (value === null || value === undefined) return "";
  let text = String(value);
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`; // or a spreadsheet would run it
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

at("files").addEventListener("change", (event) => { add([...event.target.files]); event.target.value = ""; });
for (const name of ["dragenter", "dragover"]) document.addEventListener(name, (event) => { event.preventDefault(); at("drop").classList.add("over"); });
for (const name of ["dragleave", "drop"]) document.addEventListener(name, () => at("drop").classList.remove("over"));
document.addEventListener("drop", async (event) => { event.preventDefault(); add(await dropped(event.dataTransfer)); });
at("stop").addEventListener("click", () => state.stop?.abort());
at("more").addEventListener("click", showMorePictures);
at("heat").addEventListener("change", (event) => at("cards").classList.toggle("no-heat", !event.target.checked));
at("clear").addEventListener("click", clear);
at("csv").addEventListener("click", () => {
  const link = make("a", { href: URL.createObjectURL(new Blob([csv()], { type: "text/csv" })), download: "nephros.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
start().catch(() => { at("model").textContent = "The server can't be reached: reload the page."; });
