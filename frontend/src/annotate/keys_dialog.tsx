import { Dialog } from "../shared/dialog.tsx";
import { KEY_HELP } from "./keys.ts";

export function KeysDialog({ onClose }: { readonly onClose: () => void }) {
  return (
    <Dialog title="Keys" onClose={onClose}>
      <p class="muted">They work while the gallery has the focus; Tab takes you there.</p>
      <dl class="keys">
        {KEY_HELP.map(([keys, meaning]) => (
          <div key={keys}>
            <dt>{keys}</dt>
            <dd>{meaning}</dd>
          </div>
        ))}
      </dl>
      <h3>Marks in the gallery</h3>
      <dl class="keys">
        <div>
          <dt>Frame</dt>
          <dd>the label, in the color of its class</dd>
        </div>
        <div>
          <dt>Bar below</dt>
          <dd>the predicted class; its length is the probability</dd>
        </div>
        <div>
          <dt>Diamond</dt>
          <dd>out of distribution: unlike the cells that the model was trained on</dd>
        </div>
        <div>
          <dt>Question mark</dt>
          <dd>the label looks wrong</dd>
        </div>
        <div>
          <dt>White ring</dt>
          <dd>the label is not saved yet</dd>
        </div>
      </dl>
    </Dialog>
  );
}
