/* For cppcheck, which reads no system headers: what the lists of <sys/queue.h> and <bsd/sys/tree.h> declare. */
#define TAILQ_HEAD(name, type)  struct name { struct type *first; }
#define TAILQ_ENTRY(type)       struct { struct type *next; }
#define STAILQ_HEAD(name, type) struct name { struct type *first; }
#define STAILQ_ENTRY(type)      struct { struct type *next; }
#define SLIST_HEAD(name, type)  struct name { struct type *first; }
#define SLIST_ENTRY(type)       struct { struct type *next; }
#define LIST_HEAD(name, type)   struct name { struct type *first; }
#define LIST_ENTRY(type)        struct { struct type *next; }
#define RB_HEAD(name, type)     struct name { struct type *root; }
#define RB_ENTRY(type)          struct { struct type *left; }
#define TAILQ_FOREACH(v, head, field)             for (v = (head)->first; v; v = v->field.next)
#define STAILQ_FOREACH(v, head, field)            for (v = (head)->first; v; v = v->field.next)
#define SLIST_FOREACH(v, head, field)             for (v = (head)->first; v; v = v->field.next)
#define LIST_FOREACH(v, head, field)              for (v = (head)->first; v; v = v->field.next)
#define TAILQ_FOREACH_SAFE(v, head, field, next_) for (v = (head)->first; v; v = v->field.next)
#define RB_FOREACH(v, name, head)                 for (v = (head)->root; v; v = name##_RB_NEXT(v))
#define RB_PROTOTYPE_STATIC(...)
#define RB_GENERATE_STATIC(...)
#define RB_PROTOTYPE(...)
#define RB_GENERATE(...)
#define SIMPLEQ_HEAD(name, type) struct name { struct type *first; }
#define SIMPLEQ_ENTRY(type)      struct { struct type *next; }
#define RB_PROTOTYPE_INTERNAL(...)
#define RB_GENERATE_INTERNAL(...)
#define json_array_foreach(array, i, value)   for (i = 0; (value = json_array_get(array, i)) != 0; i++)
#define json_object_foreach(object, key, value) while ((key = json_next(object, &value)) != 0)
