# Writes the description of the extension, as the Extensions Manager would show it.

set(_description "")
foreach(_field HOMEPAGE CATEGORY CONTRIBUTORS DESCRIPTION ICONURL SCREENSHOTURLS DEPENDS)
  if("${EXTENSION_${_field}}" STREQUAL "")
    message(FATAL_ERROR "EXTENSION_${_field} is not set")
  endif()
  string(APPEND _description "${_field} ${EXTENSION_${_field}}\n")
endforeach()
file(WRITE "${CMAKE_BINARY_DIR}/${PROJECT_NAME}.txt" "${_description}")
