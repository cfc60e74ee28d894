/** Adds a class. */
import { useSignal } from "@preact/signals";
import { addClass } from "./project_api.ts";
import { useSession } from "./session_context.ts";

export function NewClass() {
  const session = useSession();
  const name = useSignal("");
  const add = async (event: Event) => {
    event.preventDefault();
    const text = name.value.trim();
    if (!text) return;
    try {
      await addClass(text);
      name.value = "";
      await session.refresh();
    } catch (error) {
      session.notify((error as Error).message);
    }
  };
  return (
    <form class="new-class" onSubmit={add}>
      <label>
        <span class="visually-hidden">Name of a new class</span>
        <input
          type="text"
          id="new-class"
          maxLength={80}
          placeholder="New class"
          autocomplete="off"
          value={name.value}
          onInput={(event) => {
            name.value = event.currentTarget.value;
          }}
        />
      </label>
      <button type="submit">Add</button>
    </form>
  );
}
