// What pages do beyond links and forms, a subject a file. They work without it.

import "./keys.js";
