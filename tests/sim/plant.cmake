# Plants a bug: copies IN to OUT with the one place that reads FROM made to read TO, in which '@' stands for ';' and '~' for
# the end of a line. cmake -DIN= -DOUT= -DFROM= -DTO= -P
file(READ ${IN} text)
foreach(part FROM TO)
  string(REPLACE "@" ";" ${part} "${${part}}")
  string(REPLACE "~" "\n" ${part} "${${part}}")
endforeach()
string(FIND "${text}" "${FROM}" first)
string(FIND "${text}" "${FROM}" last REVERSE)
if(first EQUAL -1 OR NOT first EQUAL last)
  message(FATAL_ERROR "${IN} does not read '${FROM}' in exactly one place: the bug planted by tests/sim needs another")
endif()
string(REPLACE "${FROM}" "${TO}" text "${text}")
file(WRITE ${OUT} "${text}")
