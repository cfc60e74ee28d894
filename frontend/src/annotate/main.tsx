import { render } from "preact";
import "../styles/index.css";
import { AnnotatePage } from "./page.tsx";
import { Session } from "./session.ts";
import { SessionContext } from "./session_context.ts";

const session = new Session();
session.start();
render(
  <SessionContext.Provider value={session}>
    <AnnotatePage />
  </SessionContext.Provider>,
  document.getElementById("app") as HTMLElement,
);
