/* stdout. Output that is lost is an error: a full disk, a closed descriptor. A reader that has left
 * is none; the program then ends quietly, as other tools do. */
#pragma once

/* Have descriptors 0 to 2 open, so that no file that the program opens becomes one of them, and let
 * stdout wait for a non-blocking reader. To be called first. */
void stdout_open(void);
/* Can stdout be written? 0; or STATUS_FAILED, and the first call says why; or the exit code of a
 * broken pipe, without a word. Long output is ended when this is not 0. */
int stdout_status(void);
int stdout_close(void); // write what is left; then as stdout_status()
