# The macros that a scripted extension calls.

option(BUILD_TESTING "Register the in-application tests" ON)

# A module or, WITH_SUBDIR, a Python package: copies its files to the build tree and installs them from there.
# Relative folders are kept; everything lies in one folder of scripted modules, packages in a folder of their own.
macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(_module "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(_module_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "Unknown keywords: ${_module_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT DEFINED _module_NAME)
    message(FATAL_ERROR "NAME is mandatory")
  endif()
  set(_folder "${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
  if(_module_WITH_SUBDIR)
    get_filename_component(_package "${CMAKE_CURRENT_SOURCE_DIR}" NAME)
    string(APPEND _folder "/${_package}")
  endif()
  set(_copies)
  foreach(_file IN LISTS _module_SCRIPTS _module_RESOURCES)
    if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${_file}")
      message(FATAL_ERROR "${_module_NAME}: there is no file '${_file}'")
    endif()
    set(_copy "${CMAKE_BINARY_DIR}/${_folder}/${_file}")
    add_custom_command(
      OUTPUT "${_copy}"
      DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/${_file}"
      COMMAND ${CMAKE_COMMAND} -E copy "${CMAKE_CURRENT_SOURCE_DIR}/${_file}" "${_copy}")
    list(APPEND _copies "${_copy}")
    get_filename_component(_subfolder "${_file}" DIRECTORY)
    install(FILES "${_copy}" DESTINATION "${_folder}/${_subfolder}" COMPONENT RuntimeLibraries)
  endforeach()
  add_custom_target(Copy${_module_NAME}PythonFiles ALL DEPENDS ${_copies})
endmacro()

# A test that runs inside of the application; here it is only checked that the script exists.
macro(slicer_add_python_unittest)
  cmake_parse_arguments(_unittest "" "SCRIPT;TESTNAME_PREFIX" "SLICER_ARGS" ${ARGN})
  if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${_unittest_SCRIPT}")
    message(FATAL_ERROR "There is no test script '${_unittest_SCRIPT}'")
  endif()
endmacro()
