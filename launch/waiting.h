/* How OpenMP's idle threads wait for work. */
#pragma once

/* Set it by what the host offers now. Where this run has its cores to itself, idle threads should
 * spin for about as long as it takes to sleep and wake; libgomp's default is a hundred times
 * longer, which slows down all processes that share the cores. Where ranks or other jobs want more
 * cores than there are, threads must not spin at all: each would keep from running the thread that
 * it waits for. OpenMP reads its environment before main() starts, so this sets the variables and
 * executes the program once more, with the same arguments. Variables that the user has set stay,
 * and then this returns. */
void choose_waiting(char **argv);
