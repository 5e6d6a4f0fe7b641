/** The element that scrolls the page, handed down by the shell. */

import { getContext, setContext } from "svelte";

const KEY = Symbol("scroll area");

export interface ScrollArea {
  readonly element: HTMLElement | undefined;
}

export const provideScrollArea = (area: ScrollArea): ScrollArea => setContext(KEY, area);
export const scrollArea = (): ScrollArea => getContext<ScrollArea>(KEY);
