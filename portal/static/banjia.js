// What the pages do beyond forms and links. Everything here is an ease: without it each page still works.
