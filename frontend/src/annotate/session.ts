/** The state of the annotation page, and what its buttons and keys do. */
import { batch, signal } from "@preact/signals";
import { RequestError } from "../shared/api.ts";
import { browserStorage } from "../shared/browser_storage.ts";
import { plural } from "../shared/format.ts";
import { continueOrder, findPosition } from "./cell_order.ts";
import { CellStore } from "./cell_store.ts";
import { describeCell } from "./describe_cell.ts";
import { GalleryImages } from "./gallery_images.ts";
import { DEFAULT_QUERY, type GalleryQuery, queryParams } from "./gallery_query.ts";
import { isActive, mergeJobs, updateJob, waitForJob } from "./jobs.ts";
import { LabelQueue } from "./label_queue.ts";
import { Labeling } from "./labeling.ts";
import { latestOnly } from "./latest_only.ts";
import { getOrder, getProject, isOfOtherProject, sendLabels } from "./project_api.ts";
import { Selection } from "./selection.ts";
import { listen } from "./server_events.ts";
import type { Job, LabelChange, LabelClass, Project } from "./types.ts";

const ANNOTATOR_KEY = "nephros-annotator";
const REFRESH_PAUSE_MS = 150;
const NOTICE_MS = 6000;
const NOTICE_MS_PER_CHARACTER = 50;

export class Session {
  readonly project = signal<Project | null>(null);
  readonly problem = signal("");
  readonly isOnline = signal(true);
  readonly #settings = browserStorage("localStorage");
  readonly annotator = signal(this.#settings.getItem(ANNOTATOR_KEY) ?? "");
  readonly query = signal<GalleryQuery>(DEFAULT_QUERY);
  readonly order = signal<Uint32Array>(new Uint32Array());
  readonly isOrderLoaded = signal(false);
  /** Position in the gallery from which keys move. */
  readonly active = signal(0);
  /** Cell whose card is open; it follows every move in the gallery, which may not show it. */
  readonly card = signal<number | null>(null);
  readonly tile = signal(72);
  /** Whether the gallery shows each cell at full contrast, as cards do. */
  readonly isBrightened = signal(true);
  readonly jobs = signal<readonly Job[]>([]);
  readonly notice = signal("");
  /** Changes of what the gallery draws, of the queue and the undo history. */
  readonly gridVersion = signal(0);
  readonly unsaved = signal({ n: 0, isRetrying: false });
  readonly selectionSize = signal(0);
  readonly cardVersion = signal(0);

  readonly selection = new Selection();
  readonly labeling = new Labeling(this);
  readonly queue: LabelQueue;
  readonly cells: CellStore;
  readonly images: GalleryImages;
  columns = 1;
  #view: [number, number] = [0, 0];
  #noticeTimer: ReturnType<typeof setTimeout> | undefined;

  constructor() {
    this.queue = new LabelQueue({
      send: (annotator, changes) => this.#send(annotator, changes),
      onRejected: (changes, reason) => {
        this.cells.markStale();
        this.notify(`${plural(changes.length, "label")} could not be saved: ${reason}`);
        this.redraw();
      },
      onChange: () => {
        this.unsaved.value = { n: this.queue.size, isRetrying: this.queue.isRetrying };
      },
      storage: browserStorage("sessionStorage"),
    });
    this.cells = new CellStore({ onLoad: this.redraw, unsavedLabel: this.queue.unsavedLabel });
    this.images = new GalleryImages(this.redraw);
    this.isBrightened.subscribe((isBrightened) => {
      this.images.setBrightened(isBrightened);
      this.redraw();
    });
  }

  /** Connect to the server; returns what ends the session. */
  start(): () => void {
    addEventListener("beforeunload", this.#warnBeforeUnload);
    addEventListener("pagehide", this.#storeUnsaved);
    void this.refresh();
    const stop = listen({
      onConnect: () => {
        this.isOnline.value = true;
        this.queue.retryNow();
        void this.refresh();
      },
      onDisconnect: () => {
        this.isOnline.value = false;
      },
      onChange: () => void this.refresh(),
      onJob: (job) => {
        this.jobs.value = updateJob(this.jobs.value, job);
        if (!isActive(job)) void this.refresh();
      },
    });
    return () => {
      stop();
      removeEventListener("beforeunload", this.#warnBeforeUnload);
      removeEventListener("pagehide", this.#storeUnsaved);
    };
  }

  /** Load the project's state, and bring the gallery in line with it. */
  readonly refresh = latestOnly(async () => {
    const jobs = this.jobs.value;
    try {
      this.#openProject(await getProject(), jobs);
    } catch (error) {
      if (isOfOtherProject(error)) this.#startAnew();
      else if (error instanceof RequestError && (!error.isTemporary || error.status === 401))
        this.problem.value = error.message;
      return;
    }
    this.cells.markStale();
    this.cardVersion.value++;
    this.redraw();
    void this.#refreshOrder();
  }, REFRESH_PAUSE_MS);

  /** Apart from the project's state: counts are not to wait for an order, which takes longer. */
  readonly #refreshOrder = latestOnly(() => this.#loadOrder(), REFRESH_PAUSE_MS);

  #openProject(project: Project, jobsBefore: readonly Job[]): void {
    batch(() => {
      this.problem.value = "";
      this.project.value = project;
      this.jobs.value = mergeJobs(this.jobs.value, project.jobs, jobsBefore);
    });
    this.queue.open(`nephros-unsaved ${project.id}`);
    this.images.open(project.image);
  }

  /** All that this page holds is of a project that is not served any more, and so are its unsaved labels, which stay stored. */
  #startAnew(): void {
    removeEventListener("beforeunload", this.#warnBeforeUnload);
    location.reload();
  }

  readonly redraw = (): void => {
    this.gridVersion.value++;
  };

  notify(message: string): void {
    this.notice.value = message;
    clearTimeout(this.#noticeTimer);
    this.#noticeTimer = setTimeout(
      () => {
        this.notice.value = "";
      },
      NOTICE_MS + NOTICE_MS_PER_CHARACTER * message.length,
    );
  }

  setAnnotator(name: string): void {
    this.annotator.value = name;
    this.#settings.setItem(ANNOTATOR_KEY, name);
  }

  get annotatorName(): string {
    return this.annotator.value.trim() || "anonymous";
  }

  setQuery(change: Partial<GalleryQuery>): Promise<void> {
    this.query.value = { ...this.query.value, ...change };
    return this.reSort();
  }

  /** Show the newest order from its beginning. */
  reSort(): Promise<void> {
    return this.#loadOrder({ fromStart: true });
  }

  /** Load the newest order; unless from the start, what is on the screen and the active cell keep their places. */
  async #loadOrder({ fromStart = false } = {}): Promise<void> {
    if (!this.project.value?.n_cells) return;
    const query = this.query.value;
    try {
      const next = await getOrder(queryParams(query, this.annotatorName));
      if (query !== this.query.value) return;
      const nFixed = fromStart ? 0 : Math.max(this.#view[1], this.active.value + 1);
      batch(() => {
        this.order.value = continueOrder(this.order.value, next, nFixed);
        this.isOrderLoaded.value = true;
        if (fromStart) this.moveTo(0);
        this.redraw();
      });
    } catch (error) {
      if (error instanceof RequestError && !error.isTemporary) this.notify(error.message);
    }
  }

  /** The gallery shows these positions: load them, and the screen after them. */
  readonly onView = (first: number, last: number, columns: number): void => {
    this.columns = columns;
    this.#view = [first, last];
    const order = this.order.value;
    const ahead = [...order.subarray(first, last), ...order.subarray(last, 2 * last - first)];
    this.cells.want(ahead);
    this.images.setView(ahead);
  };

  /** Show a job that was started; the server's events may have told of it already. */
  addJob(job: Job): void {
    if (this.jobs.value.every(({ id }) => id !== job.id)) this.jobs.value = updateJob(this.jobs.value, job);
  }

  waitForJob(job: Job, onProgress?: (job: Job) => void): Promise<Job> {
    this.addJob(job);
    return waitForJob(this.jobs, job, onProgress);
  }

  get visibleRows(): number {
    return Math.max(1, Math.floor((this.#view[1] - this.#view[0]) / this.columns) - 1);
  }

  /** What a label goes to: the cell whose card is open, else the active one of the gallery. */
  get currentCell(): number | null {
    return this.card.value ?? this.order.value[this.active.value] ?? null;
  }

  /** Position of the current cell, -1 where the gallery does not show it. */
  get currentPosition(): number {
    return this.order.value[this.active.value] === this.currentCell ? this.active.value : -1;
  }

  moveTo(position: number, extend = false): void {
    if (extend) this.selection.extendTo(this.order.value, position);
    else this.selection.clear(position);
    this.#activate(position);
  }

  toggle(position: number): void {
    const cell = this.order.value[position];
    if (cell === undefined) return;
    this.selection.toggle(cell, position);
    this.#activate(position);
  }

  #activate(position: number): void {
    batch(() => {
      this.active.value = position;
      this.selectionSize.value = this.selection.size;
      if (this.card.value !== null) this.card.value = this.order.value[position] ?? null;
      this.redraw();
    });
  }

  selectAll(): void {
    this.selection.selectAll(this.order.value);
    this.selectionSize.value = this.selection.size;
    this.redraw();
  }

  clearSelection(): void {
    this.selection.clear(this.active.value);
    this.selectionSize.value = 0;
    this.redraw();
  }

  /** Show a cell's card, also of one that the gallery does not show now. */
  openCard(cell: number): void {
    const position = this.order.value.indexOf(cell);
    if (position >= 0) this.active.value = position;
    this.card.value = cell;
  }

  async #send(annotator: string, changes: readonly LabelChange[]): Promise<void> {
    try {
      await sendLabels(annotator, changes);
    } catch (error) {
      if (error instanceof RequestError && error.status === 401) this.notify(error.message);
      throw error;
    }
    this.cells.confirm(annotator, changes);
    this.redraw();
    void this.refresh();
  }

  /** Go to the least certain cell without a label. */
  async nextUnsure(): Promise<void> {
    const query: GalleryQuery = { ...DEFAULT_QUERY, filters: ["unlabeled"] };
    const unsure = await getOrder(queryParams(query, this.annotatorName)).catch(() => new Uint32Array());
    const cell = unsure.find((candidate) => this.cells.label(candidate) === null && candidate !== this.currentCell);
    if (cell === undefined) {
      this.notify("Every cell has a label.");
      return;
    }
    let position = this.order.value.indexOf(cell);
    if (position < 0) {
      await this.setQuery(query);
      position = Math.max(
        0,
        findPosition(this.order.value, 0, (candidate) => candidate === cell),
      );
    }
    this.moveTo(position);
  }

  classOf(id: number | null): LabelClass | undefined {
    return id === null ? undefined : this.project.value?.classes.find((candidate) => candidate.id === id);
  }

  className(id: number | null): string | undefined {
    return this.classOf(id)?.name;
  }

  readonly describe = (position: number): string => describeCell(this, position);

  readonly #storeUnsaved = (): void => this.queue.storeAll();

  readonly #warnBeforeUnload = (event: BeforeUnloadEvent): void => {
    if (this.queue.size) event.preventDefault();
  };
}
