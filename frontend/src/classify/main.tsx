import { render } from "preact";
import "../styles/index.css";
import { ClassifyPage } from "./page.tsx";
import { Session } from "./session.ts";
import { SessionContext } from "./session_context.ts";

const session = new Session();
session.start();
const root = document.getElementById("app") as HTMLElement;
render(
  <SessionContext.Provider value={session}>
    <ClassifyPage projectUrl={root.dataset.project ?? null} />
  </SessionContext.Provider>,
  root,
);
