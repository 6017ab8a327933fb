#include <names.h>
