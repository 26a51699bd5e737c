# The real one includes CPack; the tests install instead.
