# Build rules shared by the folders.

# embed_sql(TARGET DIR...): embeds DIR/*.sql as C byte arrays; DIR/event_append.sql becomes SQL_EVENT_APPEND in
# "<target>_sql.h", declared as a NUL-terminated const char array.
function(embed_sql target)
  set(files)
  foreach(dir IN LISTS ARGN)
    file(GLOB found CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${dir}/*.sql)
    list(APPEND files ${found})
  endforeach()
  set(base ${CMAKE_CURRENT_BINARY_DIR}/${target}_sql)
  add_custom_command(OUTPUT ${base}.c ${base}.h
    COMMAND ${CMAKE_COMMAND} -DBASE=${base} "-DFILES=${files}" -P ${CMAKE_SOURCE_DIR}/cmake/embed_sql.cmake
    DEPENDS ${files} ${CMAKE_SOURCE_DIR}/cmake/embed_sql.cmake VERBATIM)
  add_library(${target}_sql OBJECT ${base}.c ${base}.h)
  target_include_directories(${target}_sql PUBLIC ${CMAKE_CURRENT_BINARY_DIR})
  target_link_libraries(${target} PRIVATE ${target}_sql)
  target_include_directories(${target} PRIVATE ${CMAKE_CURRENT_BINARY_DIR})
endfunction()

# unit_test(NAME SOURCE LIBS...): one cmocka program, label unit.
function(unit_test name source)
  add_executable(${name} ${source})
  target_link_libraries(${name} PRIVATE ${ARGN} PkgConfig::CMOCKA)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS unit TIMEOUT 300)
endfunction()
