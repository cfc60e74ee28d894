/** Starts to fine-tune: quickly or fully, under a name. */
import { useSignal } from "@preact/signals";
import { startFinetune } from "./project_api.ts";
import { useSession } from "./session_context.ts";
import type { Project } from "./types.ts";

const CHOICES = [
  { methods: ["head"], title: "Quick", text: "the last layer alone, in seconds to minutes" },
  {
    methods: undefined,
    title: "Full",
    text: "the whole network too, by several methods of which the best is kept, in minutes to hours",
  },
] as const;

export function TrainForm() {
  const session = useSession();
  const { classes } = session.project.value as Project;
  const name = useSignal("");
  const choice = useSignal<(typeof CHOICES)[number]>(CHOICES[0]);
  const problem = useSignal("");
  const isPossible = classes.filter(({ n_labels }) => n_labels > 0).length > 1;
  const start = async (event: Event) => {
    event.preventDefault();
    try {
      session.addJob(await startFinetune(name.value.trim(), choice.value.methods));
      problem.value = "";
    } catch (error) {
      problem.value = (error as Error).message;
    }
  };
  return (
    <form onSubmit={start}>
      <fieldset class="plain-group">
        <legend class="visually-hidden">What is trained</legend>
        {CHOICES.map((item) => (
          <label key={item.title} class="checkbox">
            <input
              type="radio"
              name="methods"
              checked={choice.value === item}
              onChange={() => {
                choice.value = item;
              }}
            />{" "}
            <span>
              <b>{item.title}</b>: {item.text}
            </span>
          </label>
        ))}
      </fieldset>
      <div class="row">
        <label>
          <span class="visually-hidden">Name of the run</span>
          <input
            type="text"
            maxLength={60}
            placeholder="Name (optional)"
            value={name.value}
            onInput={(event) => {
              name.value = event.currentTarget.value;
            }}
          />
        </label>
        <button type="submit" class="primary" disabled={!isPossible}>
          Start
        </button>
        {!isPossible && <span class="muted">Label cells of two classes first, at least four of each.</span>}
      </div>
      {problem.value && (
        <p class="error-message" role="alert">
          {problem.value}
        </p>
      )}
    </form>
  );
}
