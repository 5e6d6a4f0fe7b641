/** Starts the console. */

import { mount } from "svelte";
import "./app.css";
import App from "./App.svelte";

const target = document.getElementById("console");
if (!target) throw new Error("the page has no element #console");
mount(App, { target });
