/* What the report's sections stand in, study/report.html, which the build turns into an array
 * (cmake/embed.cmake). */
#pragma once

extern const unsigned char report_html[]; // [report_html_bytes]
extern const unsigned long report_html_bytes;
