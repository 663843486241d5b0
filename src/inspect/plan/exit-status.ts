/** Exit status of a command that has found out nothing: flags that are wrong, no right to look. */
export const NO_ANSWER = 3;
